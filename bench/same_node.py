"""Pod to pod on one node, policy enforced on both ends and flow events on, against veth pairs routed by the kernel."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from bench import plain
from bench.cluster import LABELS, Cluster, until
from bench.figures import Figure
from bench.options import Options
from bench.tool import PORT, compiled
from bench.traffic import Route, compare, targets

TARGETS = targets(rr=0.95, crr=0.95, throughput=1.0)
RESERVED = 255
"""Identities up to this one are no pods' (the node, its health endpoint)."""
MANY = 1000
"""Every connection is told about, and a round opens thousands."""
TIMED_OUT = 124
"""Exit status of timeout(1)."""


def run(options: Options) -> Iterator[Figure]:
    with options.cluster(nodes=1) as cluster, compiled() as tool, plain.same_node() as kernel:
        enforce(cluster)
        client, server = cluster.attach("node1", ["same-client", "same-server"])
        ours = Route(client["netns"], server["netns"], server["ips"])
        prove_enforced(cluster, "node1", ours)
        told = seen_flows(cluster, "node1")
        yield from compare(tool, "same node", ours, kernel, TARGETS, rounds=options.rounds)
        assert seen_flows(cluster, "node1") > told + options.rounds * MANY, "the agent was not told of the connections"


def enforce(cluster: Cluster) -> None:
    """A policy that selects both ends of every connection, in both directions."""
    ports = [{"ports": [{"port": str(PORT + n), "protocol": "TCP"} for n in range(3)]}]
    peers = [{"matchLabels": LABELS}]
    cluster.apply_policy("both-ends", {
        "endpointSelector": {"matchLabels": LABELS},
        "ingress": [{"fromEndpoints": peers, "toPorts": ports}],
        "egress": [{"toEndpoints": peers, "toPorts": ports}],
    })  # fmt: skip


def seen_flows(cluster: Cluster, node: str) -> int:
    """Flows that the node's agent has taken from the datapath so far."""
    return int(cluster.ask_agent(node, "/v1/healthz")["hubble"]["observer"]["seen-flows"])


def prove_enforced(cluster: Cluster, node: str, route: Route) -> None:
    """Raises TimeoutError unless every pod of the node has policy in both directions, AssertionError unless a port that
    no rule names is silent."""

    def enforced() -> bool:
        pods = [row for row in cluster.ask_agent(node, "/v1/statedb/endpoint-policies") if row["identity"] > RESERVED]
        return bool(pods) and all(row["ingress"] and row["egress"] for row in pods)

    until(enforced, "a policy on every pod", 10)
    for address in route.addresses.values():
        script = f"exec timeout 0.5 bash -c '</dev/tcp/{address}/{PORT + 100}'"
        done = subprocess.run(["nsenter", f"--net={route.client}", "bash", "-c", script], check=False)
        assert done.returncode == TIMED_OUT, f"{address}: a port without a rule answered"
