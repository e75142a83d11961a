"""Health endpoints: every node asks every node; what stops answering is named; a restart keeps addresses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scenario.cluster import Cluster

pytestmark = pytest.mark.scenario
NODES = ("node1", "node2", "node3")


def health(cluster: Cluster, node: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(cluster.dbg(node, "statedb", "node-health", "-o", "json"))
    return rows


def test_every_node_reaches_every_node_and_its_health_endpoint(cluster: Cluster) -> None:
    objects = cluster.get("ciliumnodes")["items"]
    published = {item["metadata"]["name"]: set(item["spec"]["health"].values()) for item in objects}
    assert {len(addresses) for addresses in published.values()} == {2}, "one address per family"
    for node in NODES:

        def all_well(node: str = node) -> bool:
            rows = health(cluster, node)
            asked: dict[str, set[str]] = {name: set() for name in NODES}
            for row in rows:
                if row["kind"] == "endpoint":
                    asked[row["node"]].add(row["address"])
            return len(rows) == 12 and all(row["ok"] for row in rows) and asked == published

        cluster.eventually(all_well, f"{node} reaches both families of hosts and health endpoints of all")
        assert "3/3 reachable" in cluster.dbg(node, "status")


def test_a_dead_health_endpoint_is_named_and_heals(cluster: Cluster) -> None:
    """Its interface down: the node answers still, what is behind its datapath does not."""
    cluster.node("node3", "ip", "link", "set", "lxc_health", "down")
    try:
        cluster.kubectl("-n", "kube-system", "delete", "pod", cluster.agent("node1"))  # a fresh agent asks at once
        cluster.eventually(
            lambda: (
                {(row["node"], row["kind"]) for row in health(cluster, "node1") if not row["ok"]}
                == {("node3", "endpoint")}
            ),
            "only the health endpoint of node3 is unreachable",
        )
        assert "2/3 reachable" in cluster.dbg("node1", "status")
    finally:
        cluster.node("node3", "ip", "link", "set", "lxc_health", "up")
    cluster.eventually(lambda: "3/3 reachable" in cluster.dbg("node1", "status"), "it is asked again soon", 40)


def test_a_restart_keeps_the_endpoint(cluster: Cluster) -> None:
    def endpoint() -> tuple[int, str]:
        documents = json.loads(cluster.dbg("node2", "endpoint", "list", "-o", "json"))
        found = next(document for document in documents if document["status"]["kind"] == "health")
        return found["id"], json.dumps(found["status"]["networking"]["addressing"])

    before, pod = endpoint(), cluster.agent("node2")
    cluster.kubectl("-n", "kube-system", "delete", "pod", pod)
    cluster.eventually(lambda: cluster.agent("node2") != pod and endpoint() == before, "same number, same addresses")
