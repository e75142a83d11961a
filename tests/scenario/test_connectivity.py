"""Who reaches whom without policies: same node, other node, host, world; both families; TCP, UDP, ICMP; both modes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from scenario.cluster import Cluster, addresses, client, curl, ping, server, url

pytestmark = pytest.mark.scenario


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Iterator[dict[str, Any]]:
    with cluster.namespace("connectivity"):
        for manifest in (client("client", "node1"), server("near", "node1"), server("far", "node2")):
            manifest["metadata"]["namespace"] = "connectivity"
            cluster.apply(manifest)
        cluster.wait_ready("connectivity")
        items = cluster.get("-n", "connectivity", "pods")["items"]
        yield {item["metadata"]["name"]: item for item in items}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("target", ["near", "far"])
def test_pod_to_pod_tcp(cluster: Cluster, pods: dict[str, Any], target: str, version: int) -> None:
    ip = addresses(pods[target])[version]
    answer = cluster.exec("connectivity", "client", *curl(ip))
    assert target in answer
    assert addresses(pods["client"])[version] in answer, "the server sees the pod's own address"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("target", ["near", "far"])
def test_pod_to_pod_icmp(cluster: Cluster, pods: dict[str, Any], target: str, version: int) -> None:
    assert "1 received" in cluster.exec("connectivity", "client", *ping(addresses(pods[target])[version]))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("target", ["near", "far"])
def test_pod_to_pod_udp(cluster: Cluster, pods: dict[str, Any], target: str, version: int) -> None:
    ip = addresses(pods[target])[version]
    script = f"echo hello | nc -{version} -u -W 1 -w 2 {ip} 5353"
    assert target in cluster.exec("connectivity", "client", "sh", "-c", script)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("node", ["node1", "node2"])
def test_pod_to_host(cluster: Cluster, pods: dict[str, Any], node: str, version: int) -> None:
    entries = cluster.get("node", node)["status"]["addresses"]
    ip = next(e["address"] for e in entries if e["type"] == "InternalIP" and (":" in e["address"]) == (version == 6))
    assert "1 received" in cluster.exec("connectivity", "client", *ping(ip))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("target", ["near", "far"])
def test_host_to_pod(cluster: Cluster, pods: dict[str, Any], target: str, version: int) -> None:
    assert target in cluster.node("node1", *curl(addresses(pods[target])[version]))


@pytest.mark.parametrize("version", [4, 6])
def test_pod_to_world_is_masqueraded(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    world = {4: "203.0.113.10", 6: "2001:db8::10"}[version]
    answer = cluster.exec("connectivity", "client", *curl(world, 80))
    assert addresses(pods["client"])[version] not in answer, "the world sees the node, not the pod"


@pytest.mark.parametrize("version", [4, 6])
def test_a_large_answer_crosses_nodes(cluster: Cluster, pods: dict[str, Any], version: int) -> None:
    """Larger than any MTU: path MTU, segmentation and reassembly."""
    size = 200_000
    upload = (
        f"curl -gsS -m 5 -o /dev/null -w '%{{size_upload}}' --data-binary @- {url(addresses(pods['far'])[version])}"
    )
    sent = cluster.exec("connectivity", "client", "sh", "-c", f"head -c {size} /dev/zero | {upload}")
    assert sent.strip() == str(size)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("target", ["near", "far"])
def test_fragmented_icmp(cluster: Cluster, pods: dict[str, Any], target: str, version: int) -> None:
    ip = addresses(pods[target])[version]
    assert "1 received" in cluster.exec("connectivity", "client", "ping", "-c", "1", "-W", "2", "-s", "4000", ip)


def test_every_agent_is_well(cluster: Cluster, pods: dict[str, Any]) -> None:
    for node in ("node1", "node2", "node3"):
        status = cluster.eventually(
            lambda node=node: (
                "none" in cluster.dbg(node, "status", check=False) and cluster.dbg(node, "status", "--all-addresses")
            ),
            f"agent on {node} without errors",
        )
        assert "Cilium:" in status
