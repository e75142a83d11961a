"""Nodes: heartbeat, taints, pod CIDRs, what a missing node leaves behind."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from unit.kubelab.controllers.cluster import Cluster, deployment

from kubelab.controllers.nodes.node_ipam import ClusterCIDR, first_free


def taints(cluster: Cluster, name: str) -> list[str]:
    node = cluster.store.peek("nodes", name) or {}
    return [f"{taint['key']}:{taint['effect']}" for taint in node["spec"].get("taints") or ()]


async def test_a_node_that_is_not_ready_is_tainted(cluster: Cluster) -> None:
    node = await cluster.node("n1", ready="False")
    key = "node.kubernetes.io/not-ready"
    assert taints(cluster, "n1") == [f"{key}:NoSchedule", f"{key}:NoExecute"]
    ready = {**node["status"]["conditions"][0], "status": "True"}
    await cluster.store.update("nodes", {**node, "status": {"conditions": [ready]}}, subresource="status")
    await cluster.settle()
    assert taints(cluster, "n1") == []


async def test_a_silent_node_and_its_return(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create("namespaces", {"metadata": {"name": "kube-node-lease"}})
    lease = {"metadata": {"name": "n1"}, "spec": {"renewTime": cluster.time.isoformat()}}
    await cluster.store.create("leases.coordination.k8s.io", lease, namespace="kube-node-lease")
    await cluster.store.create("deployments.apps", deployment("web", 1))
    await cluster.roll()
    cluster.pass_time(99)
    await cluster.settle()
    assert taints(cluster, "n1") == []
    cluster.pass_time(2)
    await cluster.settle()
    assert taints(cluster, "n1")[0] == "node.kubernetes.io/unreachable:NoSchedule"
    (pod,) = cluster.pods(app="web")
    assert pod["status"]["conditions"][0]["status"] == "False"
    cluster.pass_time(1)
    renewed = {"spec": {"renewTime": cluster.time.isoformat()}}
    await cluster.store.patch("leases.coordination.k8s.io", "n1", renewed, namespace="kube-node-lease")
    node = cluster.store.peek("nodes", "n1") or {}
    ready = {**node["status"]["conditions"][0], "status": "True", "reason": "KubeletReady"}
    await cluster.store.update("nodes", {**node, "status": {"conditions": [ready]}}, subresource="status")
    await cluster.settle()
    assert taints(cluster, "n1") == []


async def test_a_control_plane_that_was_stopped_does_not_blame_the_nodes(cluster: Cluster) -> None:
    await cluster.node("n1")
    cluster.pass_time(130)  # nobody could be heard
    await cluster.settle()
    assert taints(cluster, "n1") == []
    cluster.pass_time(101)  # this is silence
    await cluster.settle()
    assert taints(cluster, "n1")[0] == "node.kubernetes.io/unreachable:NoSchedule"


async def test_pods_of_a_deleted_node_go(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create("deployments.apps", deployment("web", 1))
    await cluster.roll()
    await cluster.store.delete("nodes", "n1")
    await cluster.settle()
    (pod,) = cluster.pods(app="web")
    assert "nodeName" not in pod["spec"]  # a new one that waits


async def test_pod_cidrs_of_both_families(dual_stack: Cluster) -> None:
    for name in ("n1", "n2"):
        await dual_stack.node(name)
    blocks = [(dual_stack.store.peek("nodes", name) or {})["spec"]["podCIDRs"] for name in ("n1", "n2")]
    assert blocks == [["10.244.0.0/24", "fd00:10::/120"], ["10.244.1.0/24", "fd00:10::100/120"]]


async def test_exhausted_cidrs_are_told_and_freed_by_deletion(dual_stack: Cluster) -> None:
    for number in range(5):
        await dual_stack.node(f"n{number}")
    assert "podCIDRs" not in (dual_stack.store.peek("nodes", "n4") or {})["spec"]
    reasons = {event["reason"] for event in dual_stack.store.peek_all("events")}
    assert "CIDRNotAvailable" in reasons
    await dual_stack.store.delete("nodes", "n2")
    await dual_stack.settle()
    assert (dual_stack.store.peek("nodes", "n4") or {})["spec"]["podCIDR"] == "10.244.2.0/24"


def test_blocks_of_other_sizes_are_avoided() -> None:
    cidr = ClusterCIDR(ip_network("10.0.0.0/22"), 24)
    taken = [ip_network("10.0.0.0/23"), ip_network("10.0.2.128/25"), ip_network("fd00::/64")]
    assert first_free(cidr, taken) == ip_network("10.0.3.0/24")
    assert first_free(cidr, [ip_network("10.0.0.0/16")]) is None


def test_a_block_must_fit_its_pool() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        ClusterCIDR(ip_network("10.0.0.0/24"), 16)


async def test_pods_leave_a_silent_node_when_their_patience_ends(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create("deployments.apps", deployment("web", 1))
    tolerant = deployment("stays", 1)
    tolerant["spec"]["template"]["spec"]["tolerations"] = [{"operator": "Exists"}]
    await cluster.store.create("deployments.apps", tolerant)
    await cluster.roll()
    cluster.pass_time(101)
    await cluster.settle()
    cluster.pass_time(299)
    await cluster.settle()
    assert ["deletionTimestamp" in pod["metadata"] for pod in cluster.pods(app="web")] == [False]
    cluster.pass_time(2)
    await cluster.settle()
    assert sorted("deletionTimestamp" in pod["metadata"] for pod in cluster.pods(app="web")) == [False, True]
    assert ["deletionTimestamp" in pod["metadata"] for pod in cluster.pods(app="stays")] == [False]


async def test_an_untolerated_taint_drives_pods_away_at_once(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.node("n2")
    await cluster.store.create("deployments.apps", deployment("web", 4))
    await cluster.roll()
    taint = {"key": "maintenance", "effect": "NoExecute"}
    await cluster.store.patch("nodes", "n1", {"spec": {"taints": [taint]}})
    await cluster.roll()
    assert [pod["spec"]["nodeName"] for pod in cluster.pods(app="web")] == ["n2"] * 4


async def test_events_expire(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create("deployments.apps", deployment("web", 1))
    await cluster.roll()
    assert cluster.store.peek_all("events")
    cluster.pass_time(3500)
    await cluster.roll()
    before = {event["reason"] for event in cluster.store.peek_all("events")}
    assert "ScalingReplicaSet" in before
    cluster.pass_time(101)
    await cluster.roll()
    assert "ScalingReplicaSet" not in {event["reason"] for event in cluster.store.peek_all("events")}
