"""What an agent follows of the API: what is switched off costs no watch."""

from __future__ import annotations

from typing import Any

import pytest

from cilium.app.agent import followed
from cilium.settings import Settings, from_values
from cilium.sources.kubernetes.source import AGENT, Resource


@pytest.mark.parametrize(
    ("values", "without"),
    [
        ({"k8sNetworkPolicy": {"enabled": False}}, Resource.NETWORK_POLICIES),
        ({"k8sClusterNetworkPolicy": {"enabled": False}}, Resource.CLUSTER_NETWORK_POLICIES),
    ],
)
def test_policies_of_kubernetes_can_be_switched_off(values: dict[str, Any], without: Resource) -> None:
    assert without in followed(Settings())
    assert without not in followed(from_values(values))
    assert followed(Settings()) - followed(from_values(values)) == {without}
    assert followed(Settings()) <= AGENT
