"""A policy written to the API until packets feel it, on a node with 50 endpoints in a cluster of 1,000 identities.

The policy selects every endpoint of the node; its rule selects every identity. Writes open and close one UDP port in
turns. A client sends a datagram every 200 µs: the change is in force when the first one is answered, or is not. Time
counts from before the write is sent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from bench.cluster import LABELS, NAMESPACE, Cluster, until
from bench.figures import Figure, distribution
from bench.options import Options
from bench.tool import PORT, compiled

NODE = "node1"
ENDPOINTS = 50
IDENTITIES = 1000
CHANGES = 20
FIRST_IDENTITY = 20_000
WATCHED = PORT + 3


def run(options: Options) -> Iterator[Figure]:
    with options.cluster(nodes=1) as cluster, compiled() as tool:
        pods = cluster.attach(NODE, [f"pod-{n}" for n in range(ENDPOINTS)], tier="many")
        create_identities(cluster)
        client, server = pods[0], pods[1]
        with tool.server(server["netns"]), tool.started(client["netns"], "watch", server["ips"][4], WATCHED, 0) as way:
            assert way.stdout is not None
            times: dict[str, list[float]] = {"up": [], "down": []}
            answered: list[float] = []
            assert way.stdout.readline().startswith("up")
            cluster.apply_policy("watched", rule(WATCHED + 1))  # the first policy: default deny from now on
            assert way.stdout.readline().startswith("down")
            for number in range(2 * CHANGES):
                time.sleep(0.05)
                start = time.monotonic_ns()
                cluster.replace_policy("watched", rule(WATCHED + number % 2))
                answered.append((time.monotonic_ns() - start) / 1e6)
                way_is, _, moment = way.stdout.readline().partition(" ")
                times[way_is].append((int(moment) - start) / 1e6)
        yield from distribution("policy change: port opens", times["up"], unit="ms", target=20)
        yield from distribution("policy change: port closes", times["down"], unit="ms", target=20)
        yield from distribution("of which until the API has answered", answered, unit="ms")


def create_identities(cluster: Cluster) -> None:
    path = "/apis/cilium.io/v2/ciliumidentities"
    for number in range(FIRST_IDENTITY, FIRST_IDENTITY + IDENTITIES):
        labels = {"k8s:io.kubernetes.pod.namespace": NAMESPACE, "k8s:tier": "many", "k8s:app": f"app-{number}",
                  "k8s:io.cilium.k8s.policy.cluster": "default"}  # fmt: skip
        cluster.api.request("POST", path, {
            "apiVersion": "cilium.io/v2", "kind": "CiliumIdentity", "metadata": {"name": str(number)},
            "security-labels": labels,
        })  # fmt: skip

    def known() -> bool:
        tables = {table["name"]: table["rows"] for table in cluster.ask_agent(NODE, "/v1/statedb")}
        return bool(tables["identities"] >= IDENTITIES)

    until(known, f"{IDENTITIES} identities", 30)


def rule(port: int) -> dict[str, Any]:
    return {
        "endpointSelector": {"matchLabels": LABELS},
        "ingress": [{
            "fromEndpoints": [{"matchLabels": {"tier": "many"}}],
            "toPorts": [{"ports": [{"port": str(port), "protocol": "UDP"}]}],
        }],
    }  # fmt: skip
