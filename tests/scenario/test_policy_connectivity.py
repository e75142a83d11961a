"""The L3/L4 scenarios of Cilium's connectivity suite: under each policy everybody asks everybody, over both families.

Which scenarios there are and which are not: docs/policy-conformance.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scenario.cluster import Cluster
from scenario.conformance.connectivity_cases import CASES, Case
from scenario.conformance.connectivity_stage import on_stage
from scenario.conformance.stage import Stage

pytestmark = pytest.mark.scenario


@pytest.fixture(scope="module")
def stage(cluster: Cluster) -> Iterator[Stage]:
    with on_stage(cluster) as made:
        yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_connectivity(stage: Stage, case: Case) -> None:
    with stage.policies(*case.policies):
        stage.expect(case.expected(), case.name)
