"""The L3/L4 scenarios of Cilium's connectivity suite by name, and who may talk to whom under them.

Policies are those of `cilium connectivity test` (cilium.connectivity.suite), which asks a few questions about each.
Where that command does not have a test, or ours says more, they are written here. `passes` is asked of every flow of
the stage (connectivity_stage.FLOWS), those to a service by the pod behind it.
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
    NS,
    OTHERS,
    PODS,
    SECOND,
    WEB,
    WORLD,
    WORLD_ADDRESSES,
    behind,
    ccnp,
    cnp,
    from_own_node,
    host,
    match,
    port,
)
from scenario.conformance.stage import Flow

from cilium.connectivity.suite.options import External
from cilium.connectivity.suite.table import load, manifests

NAMESPACE = "k8s:io.kubernetes.pod.namespace"
CLUSTER = "k8s:io.cilium.k8s.policy.cluster"
CLIENT, OTHER, SERVER = {"kind": "client"}, {"other": "client"}, {"kind": "echo"}
OUTSIDE = {
    family: External(ip=WORLD_ADDRESSES["world1"][family], other_ip=WORLD_ADDRESSES["world2"][family], cidr=cidr)
    for family, cidr in ((4, "203.0.113.0/24"), (6, "2001:db8::/64"))
}
TESTS = {test.name: test for test in load()}


@dataclass(frozen=True)
class Case:
    """One scenario. `own`: policies instead of those of the suite's test."""

    name: str
    passes: Callable[[Flow], bool]
    own: tuple[Manifest, ...] = ()
    asks: Callable[[Flow], bool] = lambda flow: True
    """Other flows depend on the routing mode."""

    @property
    def policies(self) -> tuple[Manifest, ...]:
        return self.own or tuple(manifests(TESTS[self.name], NS, OUTSIDE, {}))

    def expected(self) -> dict[Flow, bool]:
        """A pod that asks itself by way of its service is in nobody's way."""
        flows = {flow: behind(flow) for flow in FLOWS if self.asks(flow)}
        return {flow: real.source == real.target or self.passes(real) for flow, real in flows.items()}


def ranged(name: str, passes: Callable[[Flow], bool]) -> tuple[Case, Case]:
    """With one port and with a range that has it."""
    return Case(name, passes), Case(f"{name}-port-range", passes)


def what(flow: Flow) -> tuple[str, int]:
    return flow.kind, flow.port


def to_pods_from_their_node(flow: Flow) -> bool:
    return flow.target not in PODS or from_own_node(flow)


def to_echo_web(flow: Flow) -> bool:
    return flow.target in ECHO and what(flow) == WEB


def clients_to_web(flow: Flow) -> bool:
    return flow.source not in CLIENTS or to_echo_web(flow)


def clients_not_to_web(flow: Flow) -> bool:
    return not (flow.source in CLIENTS and to_echo_web(flow))


def clients_to_same_node_web(flow: Flow) -> bool:
    return flow.source not in CLIENTS or (flow.target == "echo-same-node" and what(flow) == WEB)


def clients_not_to_same_node_web(flow: Flow) -> bool:
    return not (flow.source in CLIENTS and flow.target == "echo-same-node" and what(flow) == WEB)


def first_to_web(flow: Flow) -> bool:
    return flow.source != "client" or to_echo_web(flow)


def first_not_to_web(flow: Flow) -> bool:
    return not (flow.source == "client" and to_echo_web(flow))


def clients_from_others(flow: Flow) -> bool:
    return flow.target not in CLIENTS or flow.source in OTHERS or from_own_node(flow)


def echo_from_others(flow: Flow) -> bool:
    return flow.target not in ECHO or from_own_node(flow) or (flow.source in OTHERS and what(flow) == WEB)


def echo_from_outside(flow: Flow) -> bool:
    return flow.target not in ECHO or from_own_node(flow) or flow.source == "external"


def clients_to_world(flow: Flow) -> bool:
    return flow.source not in CLIENTS or flow.target in WORLD


def clients_to_first_of_world(flow: Flow) -> bool:
    return flow.source not in CLIENTS or flow.target == "world1"


def clients_not_to_second_of_world(flow: Flow) -> bool:
    return not (flow.source in CLIENTS and flow.target == "world2")


BASELINE = (
    Case("no-policies", lambda flow: True),
    Case(
        "allow-all-except-world",
        lambda flow: not (flow.source in PODS and flow.target in WORLD) and flow.source != "external",
    ),
    Case(
        "allow-all-with-metrics-check",
        lambda _: True,
        own=(cnp("all", {}, ingress=[{"fromEntities": ["all"]}], egress=[{"toEntities": ["all"]}]),),
    ),
)

CLOSED = (
    Case("all-egress-deny", lambda flow: flow.source not in PODS),
    Case("all-egress-deny-knp", lambda flow: flow.source not in PODS),
    Case("all-ingress-deny", to_pods_from_their_node),
    Case("all-ingress-deny-knp", to_pods_from_their_node),
    Case(
        "all-ingress-deny-from-outside",
        lambda flow: flow.target not in ECHO or from_own_node(flow),
        own=(cnp("closed", SERVER, ingress=[{}]),),
    ),
    Case("all-entities-deny", lambda flow: flow.source not in PODS and flow.target not in PODS),
)

CLIENT_EGRESS = (
    Case("client-egress", clients_to_web),
    Case("client-egress-knp", clients_to_web),
    *ranged("client-egress-expression", clients_to_web),
    *ranged("client-egress-expression-knp", clients_to_web),
    *ranged("client-egress-to-echo-deny", clients_not_to_web),
    *ranged("client-egress-to-echo-expression-deny", clients_not_to_web),
    *ranged("client-egress-to-echo-service-account", clients_to_same_node_web),
    *ranged("client-egress-to-echo-service-account-deny", clients_not_to_same_node_web),
    *ranged("client-with-service-account-egress-to-echo", first_to_web),
    *ranged("client-with-service-account-egress-to-echo-deny", first_not_to_web),
)

NODE_NETWORKS = ["172.30.0.0/16", "fd00:172:30::/48"]
"""In which the world has an address, too."""
INGRESS = (
    Case("client-ingress", clients_from_others),
    Case("client-ingress-knp", clients_from_others),
    Case("client-ingress-icmp", clients_from_others),
    Case(
        "client-ingress-from-other-client-icmp-deny",
        lambda flow: not (flow.source in OTHERS and flow.target in CLIENTS),
    ),
    Case("client-ingress-to-echo-named-port-deny", first_not_to_web),
    Case("echo-ingress", echo_from_others),
    Case("echo-ingress-knp", echo_from_others),
    Case("echo-ingress-from-other-client-deny", lambda flow: not (flow.source in OTHERS and to_echo_web(flow))),
    Case(
        "echo-ingress-from-outside",
        echo_from_outside,
        own=(cnp("in", SERVER, ingress=[{"fromEntities": ["world"], "toPorts": port("8080")}]),),
    ),
    Case(
        "from-cidr-host-netns",
        echo_from_outside,
        own=(cnp("in", SERVER, ingress=[{"fromCIDR": NODE_NETWORKS, "toPorts": port("8080")}]),),
    ),
    Case("host-entity-ingress", lambda flow: flow.target not in ECHO or flow.source in HOSTS),
    Case(
        "ingress-from-specific-namespace-ccnp",
        lambda flow: flow.target not in ECHO or flow.source == "ccnp1" or from_own_node(flow),
        own=(
            ccnp("conn-in", {NAMESPACE: SECOND}, ingress=[{"fromEndpoints": [match(**{NAMESPACE: FIRST})]}]),
            ccnp("conn-echo", {NAMESPACE: NS, **SERVER}, ingress=[{"fromEndpoints": [match(**{NAMESPACE: FIRST})]}]),
        ),
    ),
)

EGRESS = (
    Case("cluster-entity", lambda flow: flow.source not in CLIENTS or flow.target not in WORLD),
    Case("host-entity-egress", lambda flow: flow.source not in CLIENTS or flow.target in HOSTS),
    Case(
        "policy-local-cluster-egress",
        lambda flow: flow.source not in CLIENTS or flow.target in ECHO,
        own=(
            cnp(
                "out",
                CLIENT,
                egress=[
                    {"toEndpoints": [match(**SERVER, **{CLUSTER: "default"})]},
                    {"toEndpoints": [match(**CLIENT, **{CLUSTER: "elsewhere"})]},
                ],
            ),
        ),
    ),
    *ranged("to-entities-world", clients_to_world),
    Case("to-cidr-external", clients_to_first_of_world),
    Case("to-cidr-external-knp", clients_to_first_of_world),
    Case("client-egress-to-cidr-deny", clients_not_to_second_of_world),
    Case("client-egress-to-cidrgroup-deny", clients_not_to_second_of_world),
    Case("client-egress-to-cidrgroup-deny-by-label", clients_not_to_second_of_world),
    Case("client-egress-to-cidr-deny-default", lambda flow: flow.source not in CLIENTS),
    Case(
        "egress-to-specific-namespace-ccnp",
        lambda flow: flow.source != "ccnp1" or flow.target == "ccnp2",
        own=(ccnp("conn-out", {NAMESPACE: FIRST}, egress=[{"toEndpoints": [match(**{NAMESPACE: SECOND})]}]),),
    ),
)

# What denies nothing else: a node that is closed loses its API server.
PINGS = [{"fields": [{"type": 8, "family": "IPv4"}, {"type": "EchoRequest", "family": "IPv6"}]}]
OF_CLIENTS = {"matchLabels": {NAMESPACE: NS, **OTHER}}
OF_ECHO = {"matchLabels": {NAMESPACE: NS, **SERVER}}
NODES = (
    Case(
        "host-firewall-ingress",
        lambda flow: not (flow.source in OTHERS and flow.target in HOSTS),
        own=(
            host(
                "conn-node",
                ingress=[{"fromEntities": ["all"]}],
                ingressDeny=[{"fromEndpoints": [OF_CLIENTS], "icmps": PINGS}],
            ),
        ),
        asks=lambda flow: flow.target not in HOSTS or NODE[flow.source] == flow.target,
    ),
    Case(
        "host-firewall-egress",
        lambda flow: not (flow.source in HOSTS and to_echo_web(flow)),
        own=(
            host(
                "conn-node",
                egress=[{"toEntities": ["all"]}],
                egressDeny=[{"toEndpoints": [OF_ECHO], "toPorts": port("8080")}],
            ),
        ),
    ),
)

CASES = (*BASELINE, *CLOSED, *CLIENT_EGRESS, *INGRESS, *EGRESS, *NODES)
