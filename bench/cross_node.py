"""Pod to pod across nodes through VXLAN, policy and events on, against the kernel's own VXLAN with routes."""

from __future__ import annotations

from collections.abc import Iterator

from bench import plain
from bench.figures import Figure
from bench.options import Options
from bench.same_node import enforce, prove_enforced
from bench.tool import compiled
from bench.traffic import Route, compare, targets

TARGETS = targets(rr=1.0, crr=1.0, throughput=1.0)


def run(options: Options) -> Iterator[Figure]:
    with options.cluster(nodes=2) as cluster, compiled() as tool, plain.across_vxlan() as kernel:
        enforce(cluster)
        (client,) = cluster.attach("node1", ["cross-client"])
        (server,) = cluster.attach("node2", ["cross-server"])
        ours = Route(client["netns"], server["netns"], server["ips"])
        prove_enforced(cluster, "node1", ours)
        yield from compare(tool, "across nodes", ours, kernel, TARGETS, rounds=options.rounds)
