"""Pod to pod across nodes through VXLAN, policy and events on, against the kernel's own VXLAN with routes."""

from __future__ import annotations

from collections.abc import Iterator

from bench import plain
from bench.figures import Figure
from bench.options import Options
from bench.same_node import MANY, enforce, prove_enforced, seen_flows
from bench.tool import compiled
from bench.traffic import Route, compare, targets

NODES = ("node1", "node2")
TARGETS = targets(rr=1.0, crr=1.0, throughput=1.0)


def run(options: Options) -> Iterator[Figure]:
    with options.cluster(nodes=2) as cluster, compiled() as tool, plain.across_vxlan() as kernel:
        enforce(cluster)
        (client,) = cluster.attach(NODES[0], ["cross-client"])
        (server,) = cluster.attach(NODES[1], ["cross-server"])
        ours = Route(client["netns"], server["netns"], server["ips"])
        prove_enforced(cluster, NODES[0], ours)
        told = [seen_flows(cluster, node) for node in NODES]
        yield from compare(tool, "across nodes", ours, kernel, TARGETS, rounds=options.rounds)
        for node, before in zip(NODES, told, strict=True):
            assert seen_flows(cluster, node) > before + options.rounds * MANY, f"{node} was not told of the connections"
