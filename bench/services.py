"""Services: what a ClusterIP costs as their number grows, to new connections and to old, beside kube-proxy's rules.

Everything goes from pod to pod on one node and is compared with a direct connection that the kernel routes with nothing
attached. Ours translates in the socket, flow events on; kube-proxy's two rule sets stand in routers of their own. Every
service has endpoints, ten each; the one that is asked has one, which answers, and stands in the middle of kube-proxy's
list, as a service does on average. All ways take turns in every round. Last, a connection that asks for no service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import plain
from bench.cluster import NAMESPACE, Cluster
from bench.figures import Figure
from bench.kube_proxy import load
from bench.kube_proxy.model import Endpoint, Node, ServicePort
from bench.options import Options
from bench.same_node import MANY, seen_flows
from bench.service_crowd import BACKENDS, ROOM, VERSIONS, fill, ports, slice_of, wait_frontends
from bench.tool import PORT, Tool, compiled
from bench.traffic import NAMES, Route, Target, alternate, ratio, serving
from cilium.datapath.maps import PinnedMap
from cilium.datapath.paths import MAP_DIRECTORY
from kubelab.underlay import cgroups

NODE = "node1"
VALUES: Mapping[str, Any] = {"kubeProxyReplacement": True, **ROOM}
TARGETS = (Target("crr", "CRR", 1.0, "lower"), Target("rr", "RR", 0.95, "lower"))
ASKED = tuple(PORT + number for number in range(3))
"""Ports of the service that is asked, the same outside and inside."""
CLUSTER_IPS = {4: "10.96.0.10", 6: "fd00:96::10"}
"""Of that service where kube-proxy's rules stand; in the lab the API server chooses."""
NODES = {
    4: Node(version=4, pods=plain.PODS[4], services="10.96.0.0/16"),
    6: Node(version=6, pods=plain.PODS[6], services="fd00:96::/112"),
}


def run(options: Options) -> Iterator[Figure]:
    yield from measure(options, "services", VALUES, options.services)


def measure(
    options: Options, what: str, values: Mapping[str, Any], counts: Sequence[int], pairs: Sequence[tuple[str, str]] = ()
) -> Iterator[Figure]:
    """For every number of services, every way against the kernel's; `pairs`: more of them, which are to be ≤ 1.

    Raises AssertionError if the values did not have the effect that they name, or if events were off.
    """
    with ExitStack() as stack:
        cluster = stack.enter_context(options.cluster(nodes=1, values=values))
        tool = stack.enter_context(compiled())
        kernel = stack.enter_context(plain.same_node())
        routers = {mode: stack.enter_context(plain.one_node(mode)) for mode in load.MODES}
        direct, through = attach(cluster)
        others = alike(cluster, {"kernel": kernel, **{mode: made.route for mode, made in routers.items()}})
        told = seen_flows(cluster, NODE)
        servers = stack.enter_context(serving(tool, [direct, *others.values()]))
        ways = {"ours": through, **others}
        ways |= {mode: replace(others[mode], addresses=CLUSTER_IPS) for mode in routers}
        there = 1
        for count in counts:
            fill(cluster, there - 1, count - 1)
            there = count
            wait_frontends(cluster, NODE, len(VERSIONS) * (count - 1 + len(ASKED)))
            for mode, made in routers.items():
                seconds = load.load(mode, made.nodes[0], crowd(count, made.route), NODES)
                name = f"kube-proxy {mode}: loading {count:,} with {BACKENDS}, both families"
                yield Figure(name=name, value=seconds, unit="s", note=load.version(mode))
            yield from Table(tool, servers, ways, options.rounds, tuple(pairs)).rows(f"{what}: 1 of {count:,}")
            found = translations(cluster)  # now: the agent collects what has ended within seconds
            assert bool(found) == bool(values.get("socketLB")), f"{found} connections were translated packet by packet"
        ways = {"ours": direct, **others}
        yield from Table(tool, servers, ways, options.rounds).rows(f"{what}: pod to pod beside {there:,}")
        seen = seen_flows(cluster, NODE) - told
        assert seen > options.rounds * MANY * (len(counts) + 1), f"the agent was told of {seen} flows only"


def alike(cluster: Cluster, routes: Mapping[str, Route]) -> dict[str, Route]:
    """The same routes with their clients in a cgroup as deep as that of ours, which no hook is attached to: the kernel
    accounts pressure per level, a fortieth of a round trip between a client and a server in different cgroups."""
    cgroup = cgroups.node_path(cluster.name, "no-node") / "system"
    cgroups.create(cgroup)
    return {way: replace(route, cgroup=cgroup) for way, route in routes.items()}


def translations(cluster: Cluster) -> int:
    """Connections whose packets the node's datapath translates for a service."""
    directory = Path(f"/proc/{cluster.runtime(NODE).pid}/root/{MAP_DIRECTORY}")
    with PinnedMap("cilium_snat", directory) as connections:
        _, values = connections.dump()
    return int((values["service"] != 0).sum())


@dataclass(frozen=True, slots=True)
class Table:
    """One row per kind of traffic, family and way; at the end, what ours lost of all that."""

    tool: Tool
    servers: Mapping[str, Any]
    ways: Mapping[str, Route]
    rounds: int
    pairs: Sequence[tuple[str, str]] = ()

    def rows(self, what: str) -> Iterator[Figure]:
        stalled = 0
        for target in TARGETS:
            for family in VERSIONS:
                found = alternate(self.tool, target.mode, family, self.ways, self.servers, rounds=self.rounds)
                stalled += found.stalled["ours"]
                name = f"{what}: {target.name}, {NAMES[family]}"
                for way in self.ways:
                    if way != "kernel":
                        yield ratio(
                            found, way, "kernel", f"{name}: {way}", target, aim=way == "ours" and not self.pairs
                        )
                for way, against in self.pairs:
                    wanted = Target(target.mode, target.name, 1.0, "lower")
                    yield ratio(found, way, against, f"{name}: {way} / {against}", wanted)
        yield Figure(name=f"{what}: stalled requests: ours", value=stalled, target=0)


def attach(cluster: Cluster) -> tuple[Route, Route]:
    """The way from a pod of the lab to another one, and that through the ClusterIP of a service with it."""
    client, server = cluster.attach(NODE, ["service-client", "service-server"])
    cgroup = cgroups.node_path(cluster.name, NODE) / "system"
    addresses = publish(cluster, {version: str(ip) for version, ip in server["ips"].items()})
    return (
        Route(client["netns"], server["netns"], server["ips"], cgroup),
        Route(client["netns"], server["netns"], addresses, cgroup),
    )


def publish(cluster: Cluster, backend: Mapping[int, str]) -> dict[int, str]:
    """The cluster IPs of a dual-stack service with one backend."""
    asked = [{"name": f"p{port}", "port": port, "protocol": "TCP"} for port in ASKED]
    made = cluster.api.request("POST", f"/api/v1/namespaces/{NAMESPACE}/services", {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "asked", "namespace": NAMESPACE},
        "spec": {"ipFamilyPolicy": "RequireDualStack", "ports": asked},
    })  # fmt: skip
    for version, ip in backend.items():
        slice_of(cluster, "asked", version, [ip], asked)
    return {6 if ":" in ip else 4: ip for ip in made["spec"]["clusterIPs"]}


def crowd(count: int, route: Route) -> dict[int, list[ServicePort]]:
    """kube-proxy's services by IP version: the asked one amid the others."""
    found = {}
    for version in VERSIONS:
        others = list(ports(count - 1, version))
        middle = len(others) // 2
        found[version] = [*others[:middle], *asked_ports(route, version), *others[middle:]]
    return found


def asked_ports(route: Route, version: int) -> list[ServicePort]:
    return [
        ServicePort(
            namespace=NAMESPACE, name="asked", port_name=f"p{port}", cluster_ip=CLUSTER_IPS[version], port=port,
            endpoints=(Endpoint(route.addresses[version], port),),
        )
        for port in ASKED
    ]  # fmt: skip
