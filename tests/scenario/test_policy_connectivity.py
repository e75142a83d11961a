"""The L3/L4 scenarios of Cilium's connectivity suite: under each policy everybody asks everybody, over both families.

Which scenarios there are and which are not: docs/policy-conformance.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from scenario.cluster import Cluster
from scenario.conformance.connectivity_cases import CASES, Case
from scenario.conformance.connectivity_stage import on_stage
from scenario.conformance.stage import Stage

from cilium.hubble.texts import drop_reason

pytestmark = pytest.mark.scenario
EXPECTED = {
    drop_reason(name)
    for name in (
        "POLICY_DENIED", "POLICY_DENY", "UNSUPPORTED_L2_PROTOCOL", "UNSUPPORTED_L3_PROTOCOL", "STALE_OR_UNROUTABLE_IP",
        "AUTH_REQUIRED", "SERVICE_BACKEND_NOT_FOUND", "UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE", "INVALID_SOURCE_IP",
        "UNKNOWN_L3_TARGET_ADDRESS", "DROP_HOST_NOT_READY", "UNKNOWN_ICMPV4_CODE", "UNKNOWN_ICMPV6_CODE",
        "FORBIDDEN_ICMPV6_MESSAGE", "DROP_NO_EGRESS_IP", "IGMP_HANDLED", "MULTICAST_HANDLED",
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def stage(cluster: Cluster) -> Iterator[Stage]:
    with on_stage(cluster) as made:
        yield made


@pytest.fixture(scope="module")
def dropped_before(stage: Stage) -> Counter[str]:
    return drops(stage)


def drops(stage: Stage) -> Counter[str]:
    """Packets by reason, of all nodes."""
    found: Counter[str] = Counter()
    for node in stage.agents.askers:
        text = stage.cluster.node(node, "curl", "-fsS", "-m", "5", "http://127.0.0.1:9962/metrics")
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "cilium_drop_count_total":
                    found[sample.labels["reason"]] += int(sample.value)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_connectivity(stage: Stage, dropped_before: Counter[str], case: Case) -> None:
    with stage.policies(*case.policies):
        stage.expect(case.expected(), case.name)


def test_no_unexpected_packet_drops(stage: Stage, dropped_before: Counter[str]) -> None:
    """What was dropped in all these scenarios was dropped for a reason that they have."""
    for case in CASES[3:5]:  # whoever runs this test alone sees drops too
        with stage.policies(*case.policies):
            stage.expect(case.expected(), case.name)
    grown = drops(stage) - dropped_before
    assert grown[drop_reason("POLICY_DENIED")] > 0
    assert set(grown) <= EXPECTED, grown
