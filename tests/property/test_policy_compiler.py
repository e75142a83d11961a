"""The compiler against the oracle, and the compiler against itself: small steps must end where one big step ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from property.effort import examples
from property.policy_node import Node, judge
from property.policy_oracle import Peer, judged
from property.policy_world import (
    ADDRESSES,
    FLOWS,
    GROUPS,
    OBJECTS,
    PODS,
    RESERVED,
    SERVICES,
    audited_namespaces,
    key_of,
    policies,
    tiered,
)

from cilium.tables.rules import DEFAULT_DENY

LOCAL = PODS[:4]
WORLD = (Peer(9, {"reserved:world-ipv4": ""}), Peer(10, {"reserved:world-ipv6": ""}))
EVERYONE = (*PODS, *RESERVED, *ADDRESSES)

relaxed = settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])


def node_with(applied: list[dict[str, Any]]) -> Node:
    node = Node()
    for peer in (*PODS, *RESERVED, *WORLD):
        node.add_peer(peer)
    for pod in LOCAL:
        node.add_endpoint(pod)
    for service in SERVICES:
        node.add_service(service)
    for group in GROUPS:
        node.add_group(group)
    for policy in applied:
        node.add_policy(policy)
    node.settle()
    return node


def compare(
    node: Node,
    applied: list[dict[str, Any]],
    subjects: tuple[Peer, ...],
    peers: tuple[Peer, ...],
    audited: list[str],
) -> None:
    for subject in subjects:
        for direction in ("ingress", "egress"):
            for peer in peers:
                row = node.class_of(subject, direction, peer)
                for flow in FLOWS:
                    expected = judged(applied, subject, direction, peer, flow, audited, OBJECTS)
                    found = judge(row, *flow)
                    assert found == expected, (subject.labels, direction, peer, flow)


@relaxed
@given(st.lists(policies(), max_size=4, unique_by=key_of), audited_namespaces)
def test_compiled_verdicts_are_those_of_the_oracle(applied: list[dict[str, Any]], audited: list[str]) -> None:
    node = node_with(applied)
    node.audit_namespaces(audited)
    node.settle()
    compare(node, applied, LOCAL, EVERYONE, audited)


@settings(max_examples=examples(300), deadline=None)
@given(tiered())
def test_tiers_are_those_of_the_oracle(applied: list[dict[str, Any]]) -> None:
    compare(node_with(applied), applied, LOCAL[:1], (*PODS, *RESERVED[:2]), [])


class Step:
    """One change of the cluster's state."""

    def __init__(self, kind: str, subject: Any) -> None:
        self.kind, self.subject = kind, subject

    def __repr__(self) -> str:
        return f"{self.kind} {self.subject}"


steps = st.one_of(
    st.builds(Step, st.just("policy"), policies()),
    st.builds(Step, st.just("no policy"), policies().map(key_of)),
    st.builds(Step, st.just("peer"), st.sampled_from(PODS)),
    st.builds(Step, st.just("no peer"), st.sampled_from(PODS)),
    st.builds(Step, st.just("relabelled"), st.sampled_from(PODS)),
    st.builds(Step, st.just("endpoint"), st.sampled_from(LOCAL)),
    st.builds(Step, st.just("no endpoint"), st.sampled_from(LOCAL)),
    st.builds(Step, st.sampled_from(("service", "no service", "service without pods")), st.sampled_from(SERVICES)),
    st.builds(Step, st.sampled_from(("group", "no group", "other group")), st.sampled_from(GROUPS)),
    st.builds(Step, st.just("audit"), audited_namespaces),
)


def take(node: Node, step: Step) -> None:
    subject = step.subject
    match step.kind:
        case "policy":
            node.add_policy(subject)
        case "no policy":
            node.remove_policy(subject)
        case "peer":
            node.add_peer(subject)
        case "no peer":
            node.remove_peer(subject)
        case "relabelled":
            node.add_peer(Peer(subject.identity, dict(subject.labels) | {"k8s:tier": "back"}))
        case "endpoint":
            node.add_endpoint(subject)
        case "no endpoint":
            node.remove_endpoint(subject)
        case "service":
            node.add_service(subject)
        case "no service":
            node.remove_service(subject)
        case "service without pods":
            node.add_service(replace(subject, selector={}, addresses=("10.1.9.9", "fd00::1")))
        case "group":
            node.add_group(subject)
        case "no group":
            node.remove_group(subject)
        case "other group":
            node.add_group(replace(subject, labels={"tier": "back"}, cidrs=("10.200.0.0/16", "fd00::/8")))
        case "audit":
            node.audit_namespaces(subject)


@relaxed
@given(
    st.lists(policies(), max_size=3, unique_by=key_of), st.lists(st.lists(steps, min_size=1, max_size=3), max_size=5)
)
def test_small_steps_end_where_one_big_step_ends(applied: list[dict[str, Any]], rounds: list[list[Step]]) -> None:
    node = node_with(applied)
    for batch in rounds:
        for step in batch:
            take(node, step)
        node.settle()
    fresh = Node()
    for name in node.write:
        fresh.write[name].commit(list(node.write[name].table.snapshot()))
    fresh.settle()
    assert rows(node) == rows(fresh)
    assert enforced(node) == enforced(fresh)


def rows(node: Node) -> dict[int, Any]:
    return {row.key: row for row in node.rows.snapshot()}


def enforced(node: Node) -> dict[int, Any]:
    return {row.endpoint: (row.identity, row.ingress, row.egress) for row in node.endpoint_policies.snapshot()}


@relaxed
@given(st.lists(policies(), max_size=3, unique_by=key_of))
def test_no_class_without_an_entry_and_no_entry_without_its_class(applied: list[dict[str, Any]]) -> None:
    node = node_with(applied)
    classes = {key for key, row in rows(node).items() if hasattr(row, "verdicts")}
    named = {row.class_id for row in rows(node).values() if hasattr(row, "class_id")}
    assert classes == named
    cookies = {row.cookie for row in node.references.snapshot()}
    assert {verdict.cookie for row in node.rows.snapshot() for verdict in getattr(row, "verdicts", ())} <= {
        *cookies,
        DEFAULT_DENY,
    }
    for policy in applied:
        node.remove_policy(key_of(policy))
    node.settle()
    assert not len(node.rows)
