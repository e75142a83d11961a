"""The L3/L4 scenarios of Cilium's connectivity suite by name: policies of ours, and who may talk to whom under them.

`passes` is asked of every flow of the stage (connectivity_stage.FLOWS), those to a service by the pod behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scenario.conformance.agents import Manifest
from scenario.conformance.connectivity_stage import (
    CLIENTS,
    ECHO,
    FIRST,
    FLOWS,
    HOSTS,
    NODE,
    OTHERS,
    PODS,
    SECOND,
    WEB,
    WORLD,
    behind,
    ccnp,
    cnp,
    from_own_node,
    host,
    knp,
    match,
    one_of,
    port,
)
from scenario.conformance.stage import Flow

NAMESPACE = "k8s:io.kubernetes.pod.namespace"
ACCOUNT = "io.cilium.k8s.policy.serviceaccount"
CLUSTER = "k8s:io.cilium.k8s.policy.cluster"
CLIENT, OTHER, SERVER = {"kind": "client"}, {"other": "client"}, {"kind": "echo"}
EVERYWHERE = [{"toEntities": ["all"]}]
FROM_EVERYWHERE = [{"fromEntities": ["all"]}]
WEB_RANGE = port("4096", 8080)


@dataclass(frozen=True)
class Case:
    """One scenario."""

    name: str
    policies: tuple[Manifest, ...]
    passes: Callable[[Flow], bool]
    asks: Callable[[Flow], bool] = lambda flow: True
    """Other flows depend on the routing mode."""

    def expected(self) -> dict[Flow, bool]:
        """A pod that asks itself by way of its service is in nobody's way."""
        flows = {flow: behind(flow) for flow in FLOWS if self.asks(flow)}
        return {flow: real.source == real.target or self.passes(real) for flow, real in flows.items()}


def what(flow: Flow) -> tuple[str, int]:
    return flow.kind, flow.port


BASELINE = (
    Case("no-policies", (), lambda flow: True),
    Case(
        "allow-all-except-world",
        (cnp("cluster-only", {}, ingress=[{"fromEntities": ["cluster"]}], egress=[{"toEntities": ["cluster"]}]),),
        lambda flow: not (flow.source in PODS and flow.target in WORLD) and flow.source != "external",
    ),
    Case("allow-all-with-metrics-check", (cnp("all", {}, ingress=FROM_EVERYWHERE, egress=EVERYWHERE),), lambda _: True),
)

CLOSED = (
    Case("all-egress-deny", (cnp("closed", {}, egress=[{}]),), lambda flow: flow.source not in PODS),
    Case("all-egress-deny-knp", (knp("closed", {}, "Egress"),), lambda flow: flow.source not in PODS),
    Case(
        "all-ingress-deny",
        (cnp("closed", {}, ingress=[{}]),),
        lambda flow: flow.target not in PODS or from_own_node(flow),
    ),
    Case(
        "all-ingress-deny-knp",
        (knp("closed", {}, "Ingress"),),
        lambda flow: flow.target not in PODS or from_own_node(flow),
    ),
    Case(
        "all-ingress-deny-from-outside",
        (cnp("closed", SERVER, ingress=[{}]),),
        lambda flow: flow.target not in ECHO or from_own_node(flow),
    ),
    Case(
        "all-entities-deny",
        (cnp("closed", {}, ingressDeny=FROM_EVERYWHERE, egressDeny=EVERYWHERE),),
        lambda flow: flow.source not in PODS and flow.target not in PODS,
    ),
)


def to_web(flow: Flow) -> bool:
    return flow.source not in CLIENTS or (flow.target in ECHO and what(flow) == WEB)


def not_to_web(flow: Flow) -> bool:
    return not (flow.source in CLIENTS and flow.target in ECHO and what(flow) == WEB)


def others_only(flow: Flow) -> bool:
    return flow.target not in ECHO or from_own_node(flow) or (flow.source in OTHERS and what(flow) == WEB)


def to_same_node_web(flow: Flow) -> bool:
    return flow.source not in CLIENTS or (flow.target == "echo-same-node" and what(flow) == WEB)


def not_to_same_node_web(flow: Flow) -> bool:
    return not (flow.source in CLIENTS and flow.target == "echo-same-node" and what(flow) == WEB)


def second_to_web(flow: Flow) -> bool:
    return flow.source != "client2" or (flow.target in ECHO and what(flow) == WEB)


def second_not_to_web(flow: Flow) -> bool:
    return not (flow.source == "client2" and flow.target in ECHO and what(flow) == WEB)


def _both_ranges(name: str, passes: Callable[[Flow], bool], make: Callable[..., Manifest]) -> tuple[Case, Case]:
    """With one port and with a range that ends at it."""
    return Case(name, (make(port("8080")),), passes), Case(f"{name}-port-range", (make(WEB_RANGE),), passes)


KNP_WEB = {"to": [{"podSelector": match(**SERVER)}], "ports": [{"port": 8080, "protocol": "TCP"}]}
KNP_RANGE = {"to": [{"podSelector": match(**SERVER)}], "ports": [{"port": 4096, "endPort": 8080, "protocol": "TCP"}]}
CLIENT_EGRESS = (
    Case("client-egress", (cnp("out", CLIENT, egress=[{"toEndpoints": [match(**SERVER)],
                                                       "toPorts": port("8080")}]),), to_web),
    Case("client-egress-knp", (knp("out", CLIENT, "Egress", egress=[KNP_WEB]),), to_web),
    *_both_ranges(
        "client-egress-expression", to_web,
        lambda ports: cnp("out", {}, egress=[{"toEndpoints": [one_of("kind", "echo", "none")], "toPorts": ports}],
                          endpointSelector=one_of("kind", "client")),
    ),
    Case("client-egress-expression-knp",
         (knp("out", {}, "Egress", podSelector=one_of("kind", "client"),
              egress=[KNP_WEB | {"to": [{"podSelector": one_of("kind", "echo")}]}]),), to_web),
    Case("client-egress-expression-knp-port-range",
         (knp("out", {}, "Egress", podSelector=one_of("kind", "client"),
              egress=[KNP_RANGE | {"to": [{"podSelector": one_of("kind", "echo")}]}]),), to_web),
    *_both_ranges(
        "client-egress-to-echo-deny", not_to_web,
        lambda ports: cnp("out", CLIENT, egress=EVERYWHERE,
                          egressDeny=[{"toEndpoints": [match(**SERVER)], "toPorts": ports}]),
    ),
    *_both_ranges(
        "client-egress-to-echo-expression-deny", not_to_web,
        lambda ports: cnp("out", {}, egress=EVERYWHERE, endpointSelector=one_of("kind", "client"),
                          egressDeny=[{"toEndpoints": [one_of("kind", "echo")], "toPorts": ports}]),
    ),
)  # fmt: skip

ACCOUNTS = (
    *_both_ranges(
        "client-egress-to-echo-service-account", to_same_node_web,
        lambda ports: cnp("out", CLIENT, egress=[{"toEndpoints": [match(**{ACCOUNT: "echo-same-node"})],
                                                  "toPorts": ports}]),
    ),
    *_both_ranges(
        "client-egress-to-echo-service-account-deny", not_to_same_node_web,
        lambda ports: cnp("out", CLIENT, egress=EVERYWHERE,
                          egressDeny=[{"toEndpoints": [match(**{ACCOUNT: "echo-same-node"})], "toPorts": ports}]),
    ),
    *_both_ranges(
        "client-with-service-account-egress-to-echo", second_to_web,
        lambda ports: cnp("out", {ACCOUNT: "client2"}, egress=[{"toEndpoints": [match(**SERVER)], "toPorts": ports}]),
    ),
    *_both_ranges(
        "client-with-service-account-egress-to-echo-deny", second_not_to_web,
        lambda ports: cnp("out", {ACCOUNT: "client2"}, egress=EVERYWHERE,
                          egressDeny=[{"toEndpoints": [match(**SERVER)], "toPorts": ports}]),
    ),
)  # fmt: skip


def _client_from_others(flow: Flow) -> bool:
    return flow.target != "client" or flow.source in OTHERS or from_own_node(flow)


PINGS = [{"fields": [{"type": 8, "family": "IPv4"}, {"type": "EchoRequest", "family": "IPv6"}]}]
FIRST_CLIENT = {"name": "client"}
INGRESS = (
    Case("client-ingress", (cnp("in", FIRST_CLIENT, ingress=[{"fromEndpoints": [match(**OTHER)]}]),),
         _client_from_others),
    Case("client-ingress-knp",
         (knp("in", FIRST_CLIENT, "Ingress", ingress=[{"from": [{"podSelector": match(**OTHER)}]}]),),
         _client_from_others),
    Case("client-ingress-icmp",
         (cnp("in", FIRST_CLIENT, ingress=[{"fromEndpoints": [match(**OTHER)], "icmps": PINGS}]),),
         _client_from_others),
    Case("client-ingress-from-other-client-icmp-deny",
         (cnp("in", CLIENT, ingress=FROM_EVERYWHERE,
              ingressDeny=[{"fromEndpoints": [match(**OTHER)], "icmps": PINGS}]),),
         lambda flow: not (flow.source in OTHERS and flow.target in CLIENTS)),
    Case("client-ingress-to-echo-named-port-deny",
         (cnp("in", SERVER, ingress=FROM_EVERYWHERE,
              ingressDeny=[{"fromEndpoints": [match(**CLIENT)], "toPorts": port("http-8080")}]),),
         not_to_web),
    Case("echo-ingress",
         (cnp("in", SERVER, ingress=[{"fromEndpoints": [match(**OTHER)], "toPorts": port("8080")}]),), others_only),
    Case("echo-ingress-knp",
         (knp("in", SERVER, "Ingress", ingress=[{"from": [{"podSelector": match(**OTHER)}],
                                                 "ports": [{"port": "http-8080"}]}]),), others_only),
    Case("echo-ingress-from-other-client-deny",
         (cnp("in", SERVER, ingress=FROM_EVERYWHERE,
              ingressDeny=[{"fromEndpoints": [match(**OTHER)], "toPorts": port("8080")}]),),
         lambda flow: not (flow.source in OTHERS and flow.target in ECHO and what(flow) == WEB)),
    Case("echo-ingress-from-outside",
         (cnp("in", SERVER, ingress=[{"fromEntities": ["world"], "toPorts": port("8080")}]),),
         lambda flow: flow.target not in ECHO or from_own_node(flow) or flow.source == "external"),
    Case("from-cidr-host-netns",  # the nodes' network, in which the world has an address too
         (cnp("in", SERVER, ingress=[{"fromCIDR": ["172.30.0.0/16", "fd00:172:30::/48"], "toPorts": port("8080")}]),),
         lambda flow: flow.target not in ECHO or from_own_node(flow) or flow.source == "external"),
    Case("host-entity-ingress", (cnp("in", {}, ingress=[{"fromEntities": ["host"]}]),),
         lambda flow: flow.target not in PODS or from_own_node(flow)),
    Case("ingress-from-specific-namespace-ccnp",
         (ccnp("conn-in", {NAMESPACE: SECOND}, ingress=[{"fromEndpoints": [match(**{NAMESPACE: FIRST})]}]),
          ccnp("conn-echo", {NAMESPACE: "conn", "kind": "echo"},
               ingress=[{"fromEndpoints": [match(**{NAMESPACE: FIRST})]}])),
         lambda flow: flow.target not in ECHO or flow.source == "ccnp1" or from_own_node(flow)),
)  # fmt: skip


def _own_node(flow: Flow) -> bool:
    return flow.source not in CLIENTS or flow.target == NODE[flow.source]


def _world_but_second(flow: Flow) -> bool:
    return flow.source not in CLIENTS or flow.target == "world1"


OUTSIDE = [{"cidr": "203.0.113.0/24", "except": ["203.0.113.11/32"]},
           {"cidr": "2001:db8::/64", "except": ["2001:db8::11/128"]}]  # fmt: skip
FIRST_OUTSIDE = [{"cidr": "203.0.113.10/32"}, {"cidr": "2001:db8::10/128"}]
EGRESS = (
    Case("cluster-entity", (cnp("out", CLIENT, egress=[{"toEntities": ["cluster"]}]),),
         lambda flow: flow.source not in CLIENTS or flow.target not in WORLD),
    Case("host-entity-egress", (cnp("out", CLIENT, egress=[{"toEntities": ["host"]}]),), _own_node),
    Case("policy-local-cluster-egress",
         (cnp("out", CLIENT, egress=[{"toEndpoints": [match(**SERVER, **{CLUSTER: "default"})]},
                                     {"toEndpoints": [match(**CLIENT, **{CLUSTER: "elsewhere"})]}]),),
         lambda flow: flow.source not in CLIENTS or flow.target in ECHO),
    Case("to-entities-world", (cnp("out", CLIENT, egress=[{"toEntities": ["world"], "toPorts": port("80")}]),),
         lambda flow: flow.source not in CLIENTS or flow.target in WORLD),
    Case("to-entities-world-port-range",
         (cnp("out", CLIENT, egress=[{"toEntities": ["world"], "toPorts": port("80", 443)}]),),
         lambda flow: flow.source not in CLIENTS or flow.target in WORLD),
    Case("to-cidr-external", (cnp("out", CLIENT, egress=[{"toCIDRSet": OUTSIDE}]),), _world_but_second),
    Case("to-cidr-external-knp",
         (knp("out", CLIENT, "Egress", egress=[{"to": [{"ipBlock": block} for block in OUTSIDE]}]),),
         _world_but_second),
    Case("client-egress-to-cidr-deny",
         (cnp("out", CLIENT, egress=EVERYWHERE, egressDeny=[{"toCIDRSet": FIRST_OUTSIDE}]),),
         lambda flow: not (flow.source in CLIENTS and flow.target == "world1")),
    Case("client-egress-to-cidr-deny-default", (cnp("out", CLIENT, egressDeny=[{"toCIDRSet": FIRST_OUTSIDE}]),),
         lambda flow: flow.source not in CLIENTS),
    Case("egress-to-specific-namespace-ccnp",
         (ccnp("conn-out", {NAMESPACE: FIRST}, egress=[{"toEndpoints": [match(**{NAMESPACE: SECOND})]}]),),
         lambda flow: flow.source != "ccnp1" or flow.target == "ccnp2"),
)  # fmt: skip

# What denies nothing else: a node that is closed loses its API server.
OF_CLIENTS = {"matchLabels": {NAMESPACE: "conn", **OTHER}}
OF_ECHO = {"matchLabels": {NAMESPACE: "conn", **SERVER}}
NODES = (
    Case("host-firewall-ingress",
         (host("conn-node", ingress=FROM_EVERYWHERE, ingressDeny=[{"fromEndpoints": [OF_CLIENTS], "icmps": PINGS}]),),
         lambda flow: not (flow.source in OTHERS and flow.target in HOSTS),
         asks=lambda flow: flow.target not in HOSTS or NODE[flow.source] == flow.target),
    Case("host-firewall-egress",
         (host("conn-node", egress=EVERYWHERE, egressDeny=[{"toEndpoints": [OF_ECHO], "toPorts": port("8080")}]),),
         lambda flow: not (flow.source in HOSTS and flow.target in ECHO and what(flow) == WEB)),
)  # fmt: skip

CASES = (*BASELINE, *CLOSED, *CLIENT_EGRESS, *ACCOUNTS, *INGRESS, *EGRESS, *NODES)
