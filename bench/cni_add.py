"""CNI ADD on a node with 50 pods: from exec of the plugin to its result."""

from __future__ import annotations

from collections.abc import Iterator

from bench.cluster import Cluster
from bench.figures import Figure, distribution, median
from bench.options import Options

NODE = "node1"
PODS = 50
SINGLE = 40
AT_ONCE = 20
ROUNDS = 5


def run(options: Options) -> Iterator[Figure]:
    with options.cluster(nodes=1) as cluster:
        first, _ = cluster.runtime(NODE).add(cluster.create_pods(NODE, ["first"]))
        yield Figure(name="CNI ADD: the first after the agent's start", value=first[0]["milliseconds"], unit="ms")
        cluster.attach(NODE, [f"crowd-{n}" for n in range(PODS - 1)])
        known = list(one_by_one(cluster, "known", fresh_identity=False))
        yield from distribution("CNI ADD, labels known", known, unit="ms", target=50)
        fresh = list(one_by_one(cluster, "fresh", fresh_identity=True))
        yield from distribution("CNI ADD, labels that need a new identity", fresh, unit="ms", target=50)
        walls = [at_once(cluster, number) for number in range(ROUNDS)]
        yield median(f"CNI ADD: {AT_ONCE} at once, until the last", walls, unit="ms", target=600)


def one_by_one(cluster: Cluster, name: str, *, fresh_identity: bool) -> Iterator[float]:
    """Milliseconds of each; the pod is removed before the next comes."""
    for number in range(SINGLE):
        labels = {"unique": f"{name}-{number}"} if fresh_identity else {}
        attached, _ = cluster.runtime(NODE).add(cluster.create_pods(NODE, [f"{name}-{number}"], **labels))
        yield attached[0]["milliseconds"]
        cluster.runtime(NODE).delete(attached)


def at_once(cluster: Cluster, number: int) -> float:
    pods = cluster.create_pods(NODE, [f"burst-{number}-{n}" for n in range(AT_ONCE)])
    attached, milliseconds = cluster.runtime(NODE).add(pods, at_once=True)
    cluster.runtime(NODE).delete(attached)
    return milliseconds
