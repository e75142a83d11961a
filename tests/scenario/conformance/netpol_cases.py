"""The NetworkPolicy cases of Kubernetes' e2e suite (sig-network, Netpol), under its names without "should".

`ipBlock` is about addresses outside of the cluster: pods are known by their labels, whatever their address (a
documented difference from plugins that match addresses only). So the cases about CIDRs ask the world, and one says that
pods are not selected.
"""

from __future__ import annotations

from typing import Any

from scenario.conformance.netpol import Ask, Case, Step, among, both, case, ns_peer, pod_peer, pods, policy, port

A, B, C = pods(pod="a"), pods(pod="b"), pods(pod="c")
X, Y, Z = pods(ns="x"), pods(ns="y"), pods(ns="z")
IN, OUT = "Ingress", "Egress"
EVERYONE = ns_peer({})


def xa(ask: Ask) -> bool:
    return ask.end == "x/a"


def tcp(ask: Ask, *ports: int) -> bool:
    return ask.kind == "tcp" and ask.port in (ports or (80, 81))


def to_a(*peers: Any, ports: list[Any] | None = None, name: str = "case") -> dict[str, Any]:
    """Ingress of x/a from these peers; without any: from everywhere."""
    rule: dict[str, Any] = ({"from": list(peers)} if peers else {}) | ({"ports": ports} if ports else {})
    return policy("x", IN, name=name, pods=A, ingress=[rule])


INGRESS = (
    case("support a 'default-deny-ingress' policy", lambda ask: ask.ns != "x", policy("x", IN)),
    case("support a 'default-deny-all' policy", lambda ask: "x" not in {ask.ns, ask.source_ns}, policy("x", IN, OUT)),
    case("enforce policy to allow traffic from pods within server namespace based on PodSelector",
         lambda ask: not xa(ask) or ask.begin == "x/b", to_a(pod_peer(B))),
    case("enforce policy to allow ingress traffic for a target",
         lambda ask: ask.ns != "x" or (xa(ask) and ask.begin == "x/b"),
         policy("x", IN, name="deny"), to_a(pod_peer(B))),
    case("enforce policy to allow ingress traffic from pods in all namespaces", lambda ask: True, to_a(EVERYONE)),
    case("enforce policy to allow traffic only from a different namespace, based on NamespaceSelector",
         lambda ask: not xa(ask) or ask.source_ns == "y", to_a(ns_peer(Y))),
    case("enforce policy based on PodSelector with MatchExpressions",
         lambda ask: not xa(ask) or ask.begin == "x/b", to_a(pod_peer(among("pod", "b")))),
    case("enforce policy based on NamespaceSelector with MatchExpressions",
         lambda ask: not xa(ask) or ask.source_ns == "y", to_a(ns_peer(among("ns", "y")))),
    case("enforce policy based on PodSelector or NamespaceSelector",
         lambda ask: not xa(ask) or ask.source_ns == "y" or ask.begin == "x/b", to_a(ns_peer(Y), pod_peer(B))),
    case("enforce policy based on PodSelector and NamespaceSelector",
         lambda ask: not xa(ask) or ask.begin == "y/b", to_a(both(Y, B))),
    case("enforce policy based on Multiple PodSelectors and NamespaceSelectors",
         lambda ask: not xa(ask) or (ask.source_ns in "yz" and ask.source in "bc"),
         to_a(both(among("ns", "x", operator="NotIn"), among("pod", "b", "c")))),
    case("enforce policy based on any PodSelectors",
         lambda ask: not xa(ask) or ask.begin in {"x/b", "x/c"}, to_a(pod_peer(B), pod_peer(C))),
    case("enforce policy to allow traffic only from a pod in a different namespace",
         lambda ask: not xa(ask) or ask.begin == "y/a", to_a(both(Y, A))),
    case("deny ingress from pods on other namespaces", lambda ask: ask.ns != "x" or ask.within,
         policy("x", IN, ingress=[{"from": [pod_peer({})]}])),
    case("enforce a namespace selected by its well-known name", lambda ask: not xa(ask) or ask.source_ns == "z",
         to_a(ns_peer({"matchLabels": {"kubernetes.io/metadata.name": "z"}}))),
)  # fmt: skip

PORTS = (
    case("enforce policy based on Ports", lambda ask: not xa(ask) or (ask.source_ns == "y" and tcp(ask, 81)),
         to_a(ns_peer(Y), ports=[port(81, "TCP")])),
    case("enforce multiple ports of one rule",
         lambda ask: not xa(ask) or tcp(ask) or (ask.kind, ask.port) == ("udp", 81),
         to_a(ports=[port(80), port(81, "TCP"), port(81, "UDP")])),
    case("allow ingress access on one named port", lambda ask: not xa(ask) or tcp(ask, 81),
         to_a(ports=[port("serve-81-tcp")])),
    case("allow ingress access from namespace on one named port",
         lambda ask: not xa(ask) or (ask.source_ns == "y" and tcp(ask, 80)),
         to_a(ns_peer(Y), ports=[port("serve-80-tcp")])),
    case("allow egress access on one named port",
         lambda ask: ask.begin != "x/a" or (tcp(ask, 80) and ask.ns != "world"),
         policy("x", OUT, pods=A, egress=[{"ports": [port("serve-80-tcp")]}])),
    case("enforce ingress policy allowing any port traffic to a server on a specific protocol",
         lambda ask: not xa(ask) or ask.kind == "udp", to_a(ports=[port(protocol="UDP")])),
    case("enforce a range of ports (endPort)", lambda ask: not xa(ask) or tcp(ask, 81),
         to_a(ports=[port(81, "TCP", 90)])),
    case("enforce a range of ports on egress (endPort)", lambda ask: ask.begin != "x/a" or tcp(ask),
         policy("x", OUT, pods=A, egress=[{"ports": [port(79, "TCP", 81)]}])),
    case("not allow access by TCP when a policy specifies only UDP",
         lambda ask: not xa(ask) or (ask.kind, ask.port) == ("udp", 81), to_a(ports=[port(81, "UDP")])),
    case("not mistakenly treat 'protocol: SCTP' as 'protocol: TCP', even if the plugin doesn't support SCTP",
         lambda ask: not xa(ask) or tcp(ask, 81),
         to_a(ports=[port(80, "SCTP")], name="sctp"), to_a(ports=[port(81, "TCP")])),
    case("properly isolate pods that are selected by a policy allowing SCTP, even if the plugin doesn't support SCTP",
         lambda ask: not xa(ask), to_a(ports=[port(80, "SCTP")])),
)  # fmt: skip

UDP_ONLY = (
    case("UDP: enforce policy based on Ports",
         lambda ask: not xa(ask) or (ask.source_ns == "y" and (ask.kind, ask.port) == ("udp", 80)),
         to_a(ns_peer(Y), ports=[port(80, "UDP")])),
    case("UDP: enforce policy to allow traffic only from a pod in a different namespace",
         lambda ask: not xa(ask) or (ask.begin == "y/a" and ask.kind == "udp"),
         to_a(both(Y, A), ports=[port(protocol="UDP")])),
)  # fmt: skip

FIRST = ({"cidr": "203.0.113.10/32"}, {"cidr": "2001:db8::10/128"})
ALL_BUT_FIRST = ({"cidr": "203.0.113.0/24", "except": ["203.0.113.10/32"]},
                 {"cidr": "2001:db8::/64", "except": ["2001:db8::10/128"]})  # fmt: skip
ANYWHERE = ({"cidr": "0.0.0.0/0"}, {"cidr": "::/0"})


def from_a(*blocks: dict[str, Any], name: str = "case") -> dict[str, Any]:
    return policy("x", OUT, name=name, pods=A, egress=[{"to": [{"ipBlock": block} for block in blocks]}])


EGRESS = (
    case("support denying of egress traffic on the client side (even if the server explicitly allows this traffic)",
         lambda ask: ask.begin != "x/a" or ask.end in {"y/a", "y/b"},
         policy("x", OUT, pods=A, egress=[{"to": [both(Y, among("pod", "a", "b"))]}]),
         policy("y", IN, ingress=[{"from": [EVERYONE]}])),
    case("deny egress from pods based on PodSelector", lambda ask: ask.begin != "x/a", policy("x", OUT, pods=A)),
    case("deny egress from all pods in a namespace", lambda ask: ask.source_ns != "x", policy("x", OUT)),
    case("enforce egress policy allowing traffic to a server in a different namespace based on PodSelector and "
         "NamespaceSelector", lambda ask: ask.begin != "x/a" or ask.end == "y/a",
         policy("x", OUT, pods=A, egress=[{"to": [both(Y, A)]}])),
    case("allow egress access to server in CIDR block", lambda ask: ask.begin != "x/a" or ask.end == "world/1",
         from_a(*FIRST)),
    case("enforce except clause while egress access to server in CIDR block",
         lambda ask: ask.begin != "x/a" or ask.end == "world/2", from_a(*ALL_BUT_FIRST)),
    case("ensure an IP overlapping both IPBlock.CIDR and IPBlock.Except is allowed",
         lambda ask: ask.begin != "x/a" or ask.ns == "world", from_a(*ALL_BUT_FIRST), from_a(*FIRST, name="other")),
    case("not select pods by their address (ipBlock)", lambda ask: ask.begin != "x/a" or ask.ns == "world",
         from_a(*ANYWHERE)),
    case("not let pods in by their address (ipBlock)", lambda ask: not xa(ask),
         to_a(*({"ipBlock": block} for block in ANYWHERE))),
)  # fmt: skip

STACKED = (
    case("enforce multiple, stacked policies with overlapping podSelectors",
         lambda ask: not xa(ask) or ask.source_ns == "y" or ask.begin == "x/b" or (tcp(ask, 80) and ask.source == "c"),
         to_a(ns_peer(Y)), to_a(pod_peer(B), name="second"),
         policy("x", IN, name="third", pods=among("pod", "a", "q"),
                ingress=[{"from": [both({}, C)], "ports": [port(80)]}])),
    case("support allow-all policy", lambda ask: True, policy("x", IN, ingress=[{}])),
    case("work with Ingress, Egress specified together",
         lambda ask: (not xa(ask) or (ask.begin == "x/b" and tcp(ask, 80)))
         and (ask.begin != "x/a" or ask.end == "y/b"),
         policy("x", IN, OUT, pods=A, ingress=[{"from": [pod_peer(B)], "ports": [port(80)]}],
                egress=[{"to": [both(Y, B)]}])),
    case("enforce multiple ingress policies with ingress allow-all policy taking precedence", lambda ask: True,
         policy("x", IN, name="deny"), policy("x", IN, ingress=[{}])),
    case("enforce multiple egress policies with egress allow-all policy taking precedence", lambda ask: True,
         policy("x", OUT, name="deny"), policy("x", OUT, egress=[{}])),
    case("enforce policies to check ingress and egress policies can be controlled independently based on PodSelector",
         lambda ask: ask.begin != "x/a",
         to_a(EVERYONE, name="in"), policy("x", OUT, name="out", pods=A)),
    case("default policyTypes: egress rules make both, none make Ingress",
         lambda ask: (ask.begin != "x/a" or ask.ns == "y") and ask.end not in {"x/a", "z/a"},
         policy("x", pods=A, egress=[{"to": [ns_peer(Y)]}]), policy("z", name="in", pods=A)),
    case("rules of a direction that is not in policyTypes say nothing",
         lambda ask: not xa(ask), policy("x", IN, pods=A, egress=[{"to": [ns_peer(Y)]}])),
    case("isolate on both sides: the client must be let out and let in",
         lambda ask: (ask.source_ns != "y" or ask.ns == "x") and (ask.ns != "x" or ask.source_ns == "z"),
         policy("y", OUT, egress=[{"to": [ns_peer(X)]}]), policy("x", IN, ingress=[{"from": [ns_peer(Z)]}])),
)  # fmt: skip


def _open(ask: Ask) -> bool:
    return True


UPDATES = (
    Case("enforce updated policy", (
        Step((to_a(),), _open),
        Step((to_a(ns_peer(Y), ports=[port(81)]),), lambda ask: not xa(ask) or (ask.source_ns == "y" and tcp(ask, 81))),
        Step((policy("x", IN, pods=A),), lambda ask: not xa(ask)),
    )),
    Case("allow ingress access from updated namespace", (
        Step((to_a(ns_peer(pods(ns2="updated"))),), lambda ask: not xa(ask)),
        Step((to_a(ns_peer(pods(ns2="updated"))),), lambda ask: not xa(ask) or ask.source_ns == "y",
             {"y": {"ns2": "updated"}}),
        Step((to_a(ns_peer(pods(ns2="updated"))),), lambda ask: not xa(ask)),
    )),
    Case("allow ingress access from updated pod", (
        Step((to_a(pod_peer(pods(pod="b", pod2="updated"))),), lambda ask: not xa(ask)),
        Step((to_a(pod_peer(pods(pod="b", pod2="updated"))),), lambda ask: not xa(ask) or ask.begin == "x/b",
             {"x/b": {"pod2": "updated"}}),
    )),
    Case("deny ingress access to updated pod", (
        Step((policy("x", IN, pods=pods(target="isolated")),), _open),
        Step((policy("x", IN, pods=pods(target="isolated")),), lambda ask: not xa(ask),
             {"x/a": {"target": "isolated"}}),
        Step((policy("x", IN, pods=pods(target="isolated")),), _open),
    )),
    Case("a namespace that loses its label is selected no more", (
        Step((to_a(ns_peer(Y)),), lambda ask: not xa(ask) or ask.source_ns == "y"),
        Step((to_a(ns_peer(Y)),), lambda ask: not xa(ask), {"y": {"ns": None}}),
    )),
    Case("stop enforcing policies after they are deleted", (
        Step((policy("x", IN, OUT), policy("y", IN, name="other")),
             lambda ask: ask.source_ns != "x" and ask.ns not in "xy"),
        Step((policy("y", IN, name="other"),), lambda ask: ask.ns != "y"),
        Step((), _open),
    )),
)  # fmt: skip

CASES = (*INGRESS, *PORTS, *UDP_ONLY, *EGRESS, *STACKED, *UPDATES)
