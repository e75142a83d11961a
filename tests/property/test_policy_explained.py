"""`cilium policy explain` against the oracle: the same verdict, and reasons that hold."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from property.effort import examples
from property.policy_node import DECODERS, labels_of, ports_of
from property.policy_oracle import Peer, judged
from property.policy_world import (
    ADDRESSES,
    FLOWS,
    NAMESPACES,
    PODS,
    RESERVED,
    audited_namespaces,
    key_of,
    policies,
    tiered,
)

from cilium.cli.cluster.policy.view import resolved
from cilium.features.policy.explain.compare import Comparison
from cilium.features.policy.explain.judge import Mode, judge
from cilium.features.policy.explain.rows import Direction, Judgement, Lack, Party, Traffic, Verdict
from cilium.features.policy.explain.spectrum import Connection, spectrum
from cilium.settings import PolicyEnforcement
from cilium.sources.kubernetes.tables import KubernetesTables
from cilium.tables.audit import ANNOTATION
from cilium.tables.kubernetes import Namespace
from cilium.tables.rules import Action, PolicyObject

SAID = {Verdict.ALLOWED: "allowed", Verdict.DENIED: "denied", Verdict.AUDIT: "audited"}
MODE = Mode(allow_localhost=False)
relaxed = settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.too_slow])
policy_lists = st.one_of(st.lists(policies(), max_size=4, unique_by=key_of), tiered())


def decoded(applied: list[dict[str, Any]], audited: Collection[str] = ()) -> list[PolicyObject]:
    """As `cilium policy` has them: through the agent's resolver."""
    rows = [DECODERS[policy["kind"]](msgspec.json.encode(policy)) for policy in applied]
    assert not any(row.error for row in rows)
    tables = KubernetesTables()
    tables.namespaces.writer("test").commit(
        upserts=[Namespace(name, {}, {ANNOTATION: "enabled"} if name in audited else {}) for name in NAMESPACES]
    )
    return resolved(rows, tables, cluster="default")


def party(peer: Peer) -> Party:
    if peer.address is None:
        return Party(str(peer.identity), labels_of(peer), ports_of(peer), endpoint=peer in PODS)
    label = f"reserved:world-ipv{peer.address.version}"
    return Party(str(peer.address), (label,), (), (ip_network(peer.address),), outside=True, endpoint=False)


@relaxed
@given(policy_lists, audited_namespaces)
def test_verdicts_are_those_of_the_oracle_and_their_reasons_hold(
    applied: list[dict[str, Any]], audited: list[str]
) -> None:
    objects = decoded(applied, audited)
    for subject in PODS[:3]:
        for direction in Direction:
            for peer in (*PODS, *RESERVED, *ADDRESSES):
                for flow in FLOWS[::2]:
                    found = judge(objects, direction, party(subject), party(peer), Traffic(*flow), MODE)
                    expected = judged(applied, subject, direction, peer, flow, audited)
                    assert SAID[found.verdict] == expected, (subject, direction, peer, flow)
                    check_reasons(found, direction)


def check_reasons(found: Judgement, direction: Direction) -> None:
    if found.verdict is Verdict.DENIED:
        assert found.closed_by or {one.action for one in found.deciding} == {Action.DENY}
    assert not found.deciding or len({one.action for one in found.deciding}) == 1
    assert all(one.element.section.startswith(direction) for one in found.deciding)
    for near in found.near:
        assert near.statement not in found.deciding + found.overruled
        (miss,) = near.misses
        assert miss.text
        assert (miss.lack is Lack.DIRECTION) is not near.statement.element.section.startswith(direction)


@relaxed
@given(policy_lists, st.sampled_from(PODS), st.sampled_from((*PODS, *RESERVED, *ADDRESSES)))
def test_the_spectrum_of_a_connection_is_the_verdict_of_all_traffic(
    applied: list[dict[str, Any]], source: Peer, destination: Peer
) -> None:
    """Ranges of traffic with one verdict each, and every flow lies in the range that says what the oracle says."""
    ends = party(source), party(destination)
    ranges = spectrum(Connection.between(decoded(applied), *ends, MODE))
    for protocol, port in FLOWS:
        (found,) = [one for one in ranges if one.holds(Traffic(protocol, port))]
        assert SAID[found.verdict] == combined(applied, source, destination, (protocol, port)), (found, protocol, port)


@relaxed
@given(policy_lists, policy_lists)
def test_a_comparison_finds_what_the_oracle_sees_change(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
    comparison = Comparison(decoded(old), decoded(new), map(party, PODS[:4]), MODE)
    others = (*RESERVED[:4], *ADDRESSES)
    names = {peer: party(peer).name for peer in (*PODS[:4], *others)}
    found = {
        (change.source.name, change.destination.name, Traffic(*flow))
        for change in comparison.changes(map(party, others))
        for flow in FLOWS
        if any(one.holds(Traffic(*flow)) for one in change.ranges)
    }
    pairs = [(one, other) for one in PODS[:4] for other in names] + [(one, pod) for one in others for pod in PODS[:4]]
    for source, destination in pairs:
        for flow in FLOWS[::2]:
            before, after = (combined(applied, source, destination, flow) for applied in (old, new))
            changed = (names[source], names[destination], Traffic(*flow)) in found
            assert changed is (before != after), (source, destination, flow)


def combined(applied: list[dict[str, Any]], source: Peer, destination: Peer, flow: tuple[int, int]) -> str:
    """Of both directions, as far as policies are enforced there."""
    sides = [("egress", source, destination), ("ingress", destination, source)]
    verdicts = [judged(applied, subject, way, peer, flow) for way, subject, peer in sides if subject in PODS]
    return next((verdict for verdict in ("denied", "audited") if verdict in verdicts), "allowed")


@pytest.mark.parametrize(("peer", "expected"), [(PODS[1], Verdict.ALLOWED), (RESERVED[0], Verdict.DENIED)])
def test_what_is_closed_without_a_policy_asks_the_baseline_first(peer: Peer, expected: Verdict) -> None:
    rule = {"name": "pods", "action": "Accept", "from": [{"namespaces": {}}]}
    spec = {"tier": "Baseline", "priority": 1, "subject": {"namespaces": {}}, "ingress": [rule]}
    objects = decoded([{"kind": "ClusterNetworkPolicy", "metadata": {"name": "a", "uid": "u"}, "spec": spec}])
    mode = Mode(allow_localhost=False, enforcement=PolicyEnforcement.ALWAYS)
    found = judge(objects, Direction.INGRESS, party(PODS[0]), party(peer), Traffic(6, 80), mode)
    assert found.verdict is expected
