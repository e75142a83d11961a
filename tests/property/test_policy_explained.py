"""`cilium policy explain` against the oracle: the same verdict, and reasons that hold."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from property.policy_node import DECODERS, labels_of, ports_of
from property.policy_oracle import Peer, allowed
from property.policy_world import ADDRESSES, FLOWS, PODS, RESERVED, policies

from cilium.features.policy.explain.compare import Comparison
from cilium.features.policy.explain.judge import Mode, judge
from cilium.features.policy.explain.rows import Direction, Judgement, Lack, Party, Traffic, Verdict
from cilium.features.policy.explain.spectrum import Connection, spectrum
from cilium.tables.rules import Action, PolicyObject

MODE = Mode(allow_localhost=False)
relaxed = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
policy_lists = st.lists(policies(), max_size=4, unique_by=lambda p: (p["kind"], *sorted(p["metadata"].items())))


def decoded(applied: list[dict[str, Any]]) -> list[PolicyObject]:
    rows = [DECODERS[policy["kind"]](msgspec.json.encode(policy)) for policy in applied]
    assert not any(row.error for row in rows)
    return rows


def party(peer: Peer) -> Party:
    if peer.address is None:
        return Party(str(peer.identity), labels_of(peer), ports_of(peer), endpoint=peer in PODS)
    label = f"reserved:world-ipv{peer.address.version}"
    return Party(str(peer.address), (label,), (), (ip_network(peer.address),), outside=True, endpoint=False)


@relaxed
@given(policy_lists)
def test_verdicts_are_those_of_the_oracle_and_their_reasons_hold(applied: list[dict[str, Any]]) -> None:
    objects = decoded(applied)
    for subject in PODS[:3]:
        for direction in Direction:
            for peer in (*PODS, *RESERVED, *ADDRESSES):
                for flow in FLOWS[::2]:
                    found = judge(objects, direction, party(subject), party(peer), Traffic(*flow), MODE)
                    expected = allowed(applied, subject, direction, peer, flow)
                    assert found.verdict is (Verdict.ALLOWED if expected else Verdict.DENIED), (subject, peer, flow)
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
        assert found.verdict.passes is passes(applied, source, destination, (protocol, port)), (found, protocol, port)


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
            before, after = (passes(applied, source, destination, flow) for applied in (old, new))
            changed = (names[source], names[destination], Traffic(*flow)) in found
            assert changed is (before is not after), (source, destination, flow)


def passes(applied: list[dict[str, Any]], source: Peer, destination: Peer, flow: tuple[int, int]) -> bool:
    egress = source not in PODS or allowed(applied, source, "egress", destination, flow)
    return egress and (destination not in PODS or allowed(applied, destination, "ingress", source, flow))
