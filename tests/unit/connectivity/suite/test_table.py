"""The table holds together: every name in it leads somewhere, every policy is one that agents take."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from unit.connectivity.suite.cluster import row

from cilium.connectivity.suite.features import NAMES
from cilium.connectivity.suite.options import OUTSIDE
from cilium.connectivity.suite.scenarios import SCENARIOS
from cilium.connectivity.suite.table import Test, load, manifests, policies
from cilium.sources.kubernetes.policies.cilium import decode_ccnp, decode_cnp
from cilium.sources.kubernetes.policies.network_policy import decode_knp

DECODERS = {
    "CiliumNetworkPolicy": decode_cnp,
    "CiliumClusterwideNetworkPolicy": decode_ccnp,
    "NetworkPolicy": decode_knp,
}
NODES = {4: "172.30.1.8/29", 6: "fd30::/120"}


def test_every_name_is_unique_and_leads_somewhere() -> None:
    assert max(Counter(test.name for test in load()).values()) == 1
    assert {name for test in load() for name in test.policies} == set(policies()), "no policy is unused or unknown"
    assert {part.scenario for test in load() for part in test.scenarios} == set(SCENARIOS)
    assert {name for test in load() for name in test.requires} <= set(NAMES)
    for test in load():
        assert bool(test.scenarios) is not bool(test.absent), test.name


@pytest.mark.parametrize("test", [test for test in load() if test.policies], ids=lambda test: test.name)
def test_agents_take_every_policy(test: Test) -> None:
    found = manifests(test, "elsewhere", OUTSIDE, NODES)
    for manifest in found:
        assert "$" not in json.dumps(manifest)
        if manifest["kind"] in DECODERS:
            named = {**manifest, "metadata": {**manifest["metadata"], "uid": "u", "generation": 1}}
            policy = DECODERS[manifest["kind"]](json.dumps(named).encode())
            assert not policy.error, policy.error
    names = {manifest["metadata"].get("namespace", "") for manifest in found}
    assert names <= {"elsewhere", ""}, "policies are of the namespace in which the pods are"


def test_what_a_policy_refers_to_comes_before_it() -> None:
    found = manifests(row("client-egress-to-cidrgroup-deny"), "ns", OUTSIDE, NODES)
    kinds = [manifest["kind"] for manifest in found]
    assert kinds == ["CiliumNetworkPolicy", "CiliumCIDRGroup", "CiliumNetworkPolicy"]
    assert found[1]["metadata"]["name"] == "ns-external"
    assert found[1]["spec"]["externalCIDRs"] == ["1.0.0.0/8", "2606:4700:4700::/96"]
