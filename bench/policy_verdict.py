"""What a verdict costs, whatever the number of rules behind it: pods that are judged by few and by many, in turn.

Pairs of pods on one node, both ends of each under policies of its own; flow events on. One rule of many lets the
traffic pass, the others name other ports and other peers. Out: latency of each pair against the pair with one rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.cluster import NAMESPACE, Cluster, until
from bench.figures import Figure
from bench.options import Options
from bench.tool import PORT, compiled
from bench.traffic import NAMES, Route, Target, alternate, ratio, serving

RULES = (10, 1_000, 10_000)
ELEMENTS = 100
"""Rules of one object: an object has to fit into a request."""
NONE, FEW = "no policy", "1 rule"
WANTED = (Target("rr", "request/response latency", 1.03, "lower"),
          Target("crr", "connect-request-close latency", 1.03, "lower"))  # fmt: skip


def run(options: Options) -> Iterator[Figure]:
    with options.cluster(nodes=1) as cluster, compiled() as tool:
        ways = {NONE: route(cluster, NONE, "none"), FEW: route(cluster, FEW, "n1")}
        policies(cluster, 1)
        for count in RULES:
            ways[f"{count:,} rules"] = route(cluster, f"{count:,} rules", f"n{count}")
            policies(cluster, count)
        enforced(cluster, len(ways))
        with serving(tool, ways.values()) as servers:
            for target in WANTED:
                for family in (4, 6):
                    found = alternate(tool, target.mode, family, ways, servers, rounds=options.rounds)
                    for way in (NONE, *(f"{count:,} rules" for count in RULES)):
                        name = f"verdict: {target.name}, {way} against one, {NAMES[family]}"
                        yield ratio(found, way, FEW, name, target, aim=way != NONE or target.mode == "rr")


def route(cluster: Cluster, name: str, group: str) -> Route:
    client, server = cluster.attach("node1", [f"{group}-client", f"{group}-server"], group=group)
    return Route(client["netns"], server["netns"], server["ips"])


def policies(cluster: Cluster, count: int) -> None:
    """`count` rules for each direction of both ends; the one that matters is the last of its object."""
    group = f"n{count}"
    own = [{"matchLabels": {"group": group}}]
    mine = [{"ports": [{"port": str(PORT + n), "protocol": "TCP"} for n in range(3)]}]
    for first in range(0, count, ELEMENTS):
        numbers = range(first, min(first + ELEMENTS, count))
        ingress = [{"fromEndpoints": other(n), "toPorts": ports(n)} for n in numbers]
        egress = [{"toEndpoints": other(n), "toPorts": ports(n)} for n in numbers]
        if not first:
            ingress[-1], egress[-1] = {"fromEndpoints": own, "toPorts": mine}, {"toEndpoints": own, "toPorts": mine}
        cluster.apply_policy(f"{group}-{first}", {
            "endpointSelector": {"matchLabels": {"group": group}}, "ingress": ingress, "egress": egress,
        })  # fmt: skip


def other(number: int) -> list[dict[str, Any]]:
    """Half of the rules are about the peer, too."""
    labels = {"bench": "pod"} if number % 2 else {"app": f"other-{number}"}
    return [{"matchLabels": labels}]


def ports(number: int) -> list[dict[str, Any]]:
    return [{"ports": [{"port": str(10_000 + number), "protocol": "TCP"}]}]


def enforced(cluster: Cluster, ways: int) -> None:
    """Both ends of all but one are judged in both directions, by all rules."""
    expected = 2 * (ways - 1)

    def settled() -> bool:
        rows = [row for row in cluster.ask_agent("node1", "/v1/statedb/endpoint-policies") if row["identity"] > 255]
        statuses = cluster.ask_agent("node1", "/v1/statedb/policy-status")
        objects = 1 + sum(-(-count // ELEMENTS) for count in RULES)
        return len(statuses) == objects and sum(bool(row["ingress"] and row["egress"]) for row in rows) == expected

    until(settled, f"policies of {NAMESPACE} in force", 60)
