"""A node port asked from outside, its backend on another node: packets per second and connections, beside kube-proxy.

The client stands on the network of the nodes and asks the first one, which sends everything on to a pod of the second
one and gets the replies back. Ours does so on tc and on XDP, in labs of their own, routing natively; kube-proxy's rules
do it in routers, on both nodes, and masquerade, as ours does. 1.00 is the kernel that routes the same way to the pod's
address. Packets are datagrams of one byte in one direction: what reaches the pod's socket is counted; all on one CPU.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from bench import plain
from bench.cluster import NAMESPACE, Cluster, until
from bench.figures import Figure
from bench.kube_proxy import load
from bench.kube_proxy.model import Endpoint, Node, ServicePort
from bench.options import Options
from bench.service_crowd import VERSIONS, slice_of, wait_frontends
from bench.tool import PORT, UNREAD, compiled
from bench.traffic import NAMES, Route, Target, alternate, ratio, serving
from kubelab.lab.state import LabPaths
from kubelab.underlay import network

NODE_PORT = 31_000
"""Stands for PORT, the next ones for those that follow."""
PORTS = ((0, "TCP"), (1, "TCP"), (UNREAD, "UDP"))
TARGETS = (
    Target("flood", "packets per CPU-second", 1.0, "higher"),
    Target("crr", "CRR", 1.0, "lower"),
    Target("rr", "RR", 1.0, "lower"),
)
NATIVE: Mapping[str, Any] = {
    "kubeProxyReplacement": True, "ipam": {"mode": "kubernetes"}, "routingMode": "native",
    "autoDirectNodeRoutes": True, "ipv4NativeRoutingCIDR": "10.244.0.0/16", "ipv6NativeRoutingCIDR": "fd00:10:244::/48",
}  # fmt: skip
LABS: Mapping[str, Mapping[str, Any]] = {
    "tc": NATIVE,
    "xdp": {**NATIVE, "loadBalancer": {"acceleration": "native"}},
}
PAIRS = (("tc", "iptables"), ("tc", "nftables"), ("xdp", "iptables"), ("xdp", "tc"))
"""The first is to be no worse than the second."""
CLUSTER_IPS = {4: "10.96.0.10", 6: "fd00:96::10"}


def run(options: Options) -> Iterator[Figure]:
    with ExitStack() as stack:
        ways = {"kernel": stack.enter_context(plain.from_outside("direct")).route}
        for mode in load.MODES:
            ways[mode] = ruled(mode, stack.enter_context(plain.from_outside(mode)))
        for name, values in LABS.items():
            cluster = stack.enter_context(options.cluster(nodes=2, values=values, name=name))
            for port in ("node1", "node2", "external"):
                plain.batching(str(network.netns(cluster.name, "underlay")), port)
            if name == "xdp":
                until(partial(on_xdp, cluster), "an XDP program on eth0 of node1", 60)
            ways[name] = published(cluster)
        tool = stack.enter_context(compiled())
        servers = stack.enter_context(serving(tool, ways.values()))
        stalled: Counter[str] = Counter()
        for target in TARGETS:
            for family in VERSIONS:
                found = alternate(tool, target.mode, family, ways, servers, rounds=options.rounds)
                stalled += found.stalled
                name = f"node port: {target.name}, {NAMES[family]}"
                for way in ways:
                    if way != "kernel":
                        yield ratio(found, way, "kernel", f"{name}: {way}", target, aim=False)
                for way, against in PAIRS:
                    yield ratio(found, way, against, f"{name}: {way} / {against}", target)
        for name in LABS:
            yield Figure(name=f"node port: stalled requests: {name}", value=stalled[name], target=0)


def on_xdp(cluster: Cluster) -> bool:
    """Whether the first node's device has an XDP program."""
    inside = f"--net={network.netns(cluster.name, 'node1')}"
    done = subprocess.run(["nsenter", inside, "ip", "-j", "link", "show", "eth0"], capture_output=True, check=True)
    return "xdp" in json.loads(done.stdout)[0]


def ruled(mode: str, made: plain.Routed) -> Route:
    """kube-proxy's rules on both nodes; the way through the first one's node port."""
    services = {version: node_ports(version, made.route.addresses[version]) for version in VERSIONS}
    for name, addresses in zip(made.nodes, made.addresses, strict=True):
        nodes = {version: facts(version, addresses[version]) for version in VERSIONS}
        load.load(mode, name, services, nodes)
    return Route(made.route.client, made.route.server, made.addresses[0], port=NODE_PORT)


def node_ports(version: int, backend: str) -> list[ServicePort]:
    return [
        ServicePort(
            namespace=NAMESPACE, name="asked", port_name=f"p{number}", protocol=protocol.lower(),
            cluster_ip=CLUSTER_IPS[version], port=PORT + number, node_port=NODE_PORT + number,
            endpoints=(Endpoint(backend, PORT + number),),
        )
        for number, protocol in PORTS
    ]  # fmt: skip


def facts(version: int, address: str) -> Node:
    services = "10.96.0.0/16" if version == 4 else "fd00:96::/112"
    return Node(version=version, pods=plain.PODS[version], services=services, addresses=(address,))


def published(cluster: Cluster) -> Route:
    """A service of the lab with one backend, on the second node; the way through the first one's node port."""
    (server,) = cluster.attach("node2", ["node-port-server"])
    listening: list[dict[str, object]] = [
        {"name": f"p{number}", "port": PORT + number, "protocol": protocol} for number, protocol in PORTS
    ]
    asked = [{**port, "nodePort": NODE_PORT + number} for port, (number, _) in zip(listening, PORTS, strict=True)]
    cluster.api.request("POST", f"/api/v1/namespaces/{NAMESPACE}/services", {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "asked", "namespace": NAMESPACE},
        "spec": {"type": "NodePort", "ipFamilyPolicy": "RequireDualStack", "ports": asked},
    })  # fmt: skip
    for version, ip in server["ips"].items():
        slice_of(cluster, "asked", version, [ip], listening)
    wait_frontends(cluster, "node1", 2 * len(PORTS) * len(VERSIONS))
    state = LabPaths(cluster.name).read()
    assert state is not None
    addresses = dict(zip(VERSIONS, state.plan.node(1), strict=True))
    client = str(network.netns(cluster.name, "external"))
    return Route(client, server["netns"], addresses, port=NODE_PORT)
