"""Who is on the stage of the connectivity scenarios, and everything that is asked in each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from scenario.cluster import Cluster
from scenario.conformance.agents import Manifest
from scenario.conformance.stage import Flow, Stage, pod

NS, FIRST, SECOND = "conn", "conn-ccnp1", "conn-ccnp2"
NAMES = {f"{FIRST}/client-ccnp": "ccnp1", f"{SECOND}/client-ccnp": "ccnp2"}
CLIENTS, ECHO, CCNP = {"client", "client2", "client3"}, {"echo-same-node", "echo-other-node"}, {"ccnp1", "ccnp2"}
OTHERS = {"client2", "client3"}
"""Clients with the label other=client."""
HOSTS, WORLD = {"node1", "node2"}, {"world1", "world2"}
PODS = CLIENTS | ECHO
"""Those of the namespace that most policies are about."""
NODE = {"client": "node1", "client2": "node1", "echo-same-node": "node1", "ccnp1": "node1", "ccnp2": "node2",
        "client3": "node2", "echo-other-node": "node2"}  # fmt: skip
NODE_PORT = 31080
WEB, ADMIN, DNS = ("tcp", 8080), ("tcp", 8081), ("udp", 5353)
PING = ("icmp", 0)
WORLD_ADDRESSES = {"world1": {4: "203.0.113.10", 6: "2001:db8::10"}, "world2": {4: "203.0.113.11", 6: "2001:db8::11"}}


def from_own_node(flow: Flow) -> bool:
    """The node may always reach its pods: its kubelet probes them. Only a rule that denies stands against it."""
    return flow.source in HOSTS and (NODE.get(flow.target) == flow.source)


def _flows() -> Iterator[tuple[str, str, str, int]]:
    for target in ECHO:
        yield from ((source, target, *what) for source in (CLIENTS | CCNP) for what in (WEB, ADMIN, DNS, PING))
        yield from ((source, target, *what) for source in HOSTS for what in (WEB, PING))
        yield from ((source, target, *WEB) for source in ECHO - {target})
    for target in CLIENTS:
        yield from ((source, target, *PING) for source in (CLIENTS | HOSTS | CCNP) - {target})
    for source in CLIENTS:
        yield from ((source, target, "tcp", 80) for target in WORLD)
        yield from ((source, target, *PING) for target in HOSTS)
    yield from (("ccnp1", "ccnp2", *WEB), ("ccnp2", "ccnp1", *WEB), ("ccnp1", "world1", "tcp", 80))
    yield from ((source, "service", *WEB) for source in (*CLIENTS, "echo-same-node"))
    yield from ((source, "node-port", "tcp", NODE_PORT) for source in (*CLIENTS, "external"))


def behind(flow: Flow) -> Flow:
    """What becomes of a flow to a service: policies are about the pod that serves it."""
    if flow.target not in {"service", "node-port"}:
        return flow
    return replace(flow, target="echo-same-node", kind=WEB[0], port=WEB[1])


FLOWS = [Flow(*flow, version) for flow in sorted(_flows()) for version in (4, 6)]


def _manifests() -> Iterator[Manifest]:
    for account in ("client", "client2", "client3", "echo-same-node", "echo-other-node"):
        yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": NS}}
    ports = [("http-8080", "TCP", 8080), ("http-8081", "TCP", 8081), ("dns-5353", "UDP", 5353)]

    def placed(namespace: str, name: str, node: str, account: str = "", **labels: str) -> Manifest:
        made = pod(name, node, ports=ports, account=account, **labels)
        made["metadata"]["namespace"] = namespace
        return made

    for name in sorted(CLIENTS):
        more = {"other": "client"} if name in OTHERS else {}
        yield placed(NS, name, NODE[name], name, kind="client", **more)
    for name in sorted(ECHO):
        yield placed(NS, name, NODE[name], name, kind="echo")
    yield placed(FIRST, "client-ccnp", "node1")
    yield placed(SECOND, "client-ccnp", "node2")
    yield {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "echo", "namespace": NS},
        "spec": {
            "type": "NodePort", "externalTrafficPolicy": "Local", "ipFamilyPolicy": "RequireDualStack",
            "selector": {"name": "echo-same-node"}, "ports": [{"port": 8080, "nodePort": NODE_PORT}],
        },
    }  # fmt: skip


@contextmanager
def on_stage(cluster: Cluster) -> Iterator[Stage]:
    with cluster.namespace(NS), cluster.namespace(FIRST), cluster.namespace(SECOND):
        cluster.apply(*_manifests())
        for namespace in (NS, FIRST, SECOND):
            cluster.wait_ready(namespace)
        with Stage(cluster, (NS, FIRST, SECOND), hosts=sorted(HOSTS), name=name_of) as stage:
            ips = cluster.get("-n", NS, "service", "echo")["spec"]["clusterIPs"]
            service = {6 if ":" in ip else 4: ip for ip in ips}
            stage.take_world(**WORLD_ADDRESSES, service=service, **{"node-port": stage.addresses["node1"]})
            yield stage


def name_of(key: str) -> str:
    return NAMES.get(key, key.partition("/")[2])


def cnp(name: str, subject: dict[str, str], **spec: Any) -> Manifest:
    """A CiliumNetworkPolicy for pods with these labels."""
    return {
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": NS}, "spec": {"endpointSelector": match(**subject), **spec},
    }  # fmt: skip


def ccnp(name: str, subject: dict[str, str], **spec: Any) -> Manifest:
    """A CiliumClusterwideNetworkPolicy."""
    return {
        "apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": name}, "spec": {"endpointSelector": match(**subject), **spec},
    }  # fmt: skip


def host(name: str, **spec: Any) -> Manifest:
    """A CiliumClusterwideNetworkPolicy for nodes."""
    return {
        "apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": name}, "spec": {"nodeSelector": {}, **spec},
    }  # fmt: skip


def match(**labels: str) -> dict[str, Any]:
    return {"matchLabels": labels} if labels else {}


def port(port: str, end: int = 0, protocol: str = "TCP") -> list[dict[str, Any]]:
    """`toPorts` of one entry."""
    entry: dict[str, Any] = {"port": port, "protocol": protocol}
    return [{"ports": [entry | ({"endPort": end} if end else {})]}]
