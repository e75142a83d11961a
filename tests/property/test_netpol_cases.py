"""Kubernetes' NetworkPolicy cases through oracle and compiler, without a cluster: what was written down by hand, what
the oracle says and what the maps would say are the same."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from property.policy_node import Node, lookup
from property.policy_oracle import CLUSTER, CLUSTER_KEY, NS, NS_LABEL, Peer, allowed
from scenario.conformance.netpol import ASKS, NAMESPACES, PODS, PORTS, WORLD, Ask, Case, Step, usual_labels
from scenario.conformance.netpol_cases import CASES

PROTOCOLS = {"tcp": 6, "udp": 17}
NAMED = {(name, PROTOCOLS[protocol.lower()]): port for name, protocol, port in PORTS}


def labels_of(step: Step, what: str) -> dict[str, str]:
    changed = {**usual_labels(what), **step.labels.get(what, {})}
    return {key: text for key, text in changed.items() if text is not None}


def people(step: Step) -> dict[str, Peer]:
    """Pods with their labels, and the world."""
    found = {}
    for number, key in enumerate(f"{namespace}/{pod}" for namespace in NAMESPACES for pod in PODS):
        namespace = key.partition("/")[0]
        labels = {NS: namespace, CLUSTER_KEY: CLUSTER, NS_LABEL + "kubernetes.io/metadata.name": namespace}
        labels |= {NS_LABEL + name: text for name, text in labels_of(step, namespace).items()}
        labels |= {f"k8s:{name}": text for name, text in labels_of(step, key).items()}
        found[key] = Peer(1000 + number, labels, NAMED)
    world = {f"{name}/{version}": ip for name, ips in WORLD.items() for version, ip in ips.items()}
    return found | {name: Peer(0, {}, address=ip_address(ip)) for name, ip in world.items()}


def flows(ask: Ask, who: dict[str, Peer]) -> list[tuple[Peer, Peer]]:
    """Of a question, per address family if that makes a difference."""
    if ask.ns != "world":
        return [(who[ask.begin], who[ask.end])]
    return [(who[ask.begin], who[f"{ask.end}/{version}"]) for version in (4, 6)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_by_hand_by_oracle_and_by_map(case: Case) -> None:
    for step in case.steps:
        who = people(step)
        node = Node()
        for peer in who.values():
            if peer.address is None:
                node.add_peer(peer)
                node.add_endpoint(peer)
        for world in (Peer(9, {"reserved:world-ipv4": ""}), Peer(10, {"reserved:world-ipv6": ""})):
            node.add_peer(world)
        for policy in step.policies:
            node.add_policy(policy)
        node.settle()
        for ask in ASKS:
            flow = PROTOCOLS[ask.kind], ask.port
            for source, target in flows(ask, who):
                told = allowed(step.policies, source, "egress", target, flow) and (
                    ask.ns == "world" or allowed(step.policies, target, "ingress", source, flow)
                )
                found = lookup(node.class_of(source, "egress", target), *flow) and (
                    ask.ns == "world" or lookup(node.class_of(target, "ingress", source), *flow)
                )
                assert told == step.passes(ask), f"oracle: {ask}"
                assert found == step.passes(ask), f"map: {ask}"
