"""StatefulSets: names, order, rolling updates, history, claims."""

from __future__ import annotations

from typing import Any

import pytest
from unit.kubelab.controllers.cluster import Cluster, Object, template

SETS, REVISIONS, CLAIMS = "statefulsets.apps", "controllerrevisions.apps", "persistentvolumeclaims"


def stateful_set(name: str, replicas: int = 3, **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "serviceName": "peers",
            "selector": {"matchLabels": {"app": name}},
            "template": template(app=name),
            **spec,
        },
    }


def names(cluster: Cluster) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in cluster.pods())


def image_of(cluster: Cluster, name: str) -> str:
    pod = cluster.store.peek("pods", name, namespace="default") or {}
    return str(pod["spec"]["containers"][0]["image"])


async def set_image(cluster: Cluster, image: str, **strategy: Any) -> None:
    found = cluster.store.peek(SETS, "db", namespace="default") or {}
    spec = {**found["spec"], "template": template(app="db")}
    spec["template"]["spec"]["containers"][0]["image"] = image
    if strategy:
        spec["updateStrategy"] = strategy
    await cluster.store.update(SETS, {**found, "spec": spec})


def status(cluster: Cluster) -> Object:
    return (cluster.store.peek(SETS, "db", namespace="default") or {})["status"]


@pytest.fixture
async def nodes(cluster: Cluster) -> Cluster:
    await cluster.node("n1")
    await cluster.node("n2")
    return cluster


async def test_pods_come_in_order_and_go_in_reverse(nodes: Cluster) -> None:
    await nodes.store.create(SETS, stateful_set("db"))
    seen = []
    for _ in range(6):
        await nodes.settle()
        seen.append(names(nodes))
        await nodes.run_pods()
    assert seen[:3] == [["db-0"], ["db-0", "db-1"], ["db-0", "db-1", "db-2"]]
    pod = nodes.store.peek("pods", "db-1", namespace="default") or {}
    assert pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "db-1"
    assert pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "1"
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("db-1", "peers")
    await nodes.store.patch(SETS, "db", {"spec": {"replicas": 1}}, namespace="default")
    await nodes.settle()
    ending = [pod["metadata"]["name"] for pod in nodes.pods() if "deletionTimestamp" in pod["metadata"]]
    assert ending == ["db-2"]  # db-1 only when db-2 is gone
    await nodes.roll()
    assert names(nodes) == ["db-0"]
    assert status(nodes)["replicas"] == status(nodes)["readyReplicas"] == 1


async def test_parallel_pods_and_other_numbers(nodes: Cluster) -> None:
    body = stateful_set("db", podManagementPolicy="Parallel", ordinals={"start": 5})
    await nodes.store.create(SETS, body)
    await nodes.settle()
    assert names(nodes) == ["db-5", "db-6", "db-7"]


async def test_a_rolling_update_goes_down_to_its_partition(nodes: Cluster) -> None:
    await nodes.store.create(SETS, stateful_set("db"))
    await nodes.roll()
    first = status(nodes)["currentRevision"]
    await set_image(nodes, "new", type="RollingUpdate", rollingUpdate={"partition": 2})
    await nodes.settle()
    assert [p["metadata"]["name"] for p in nodes.pods() if "deletionTimestamp" in p["metadata"]] == ["db-2"]
    await nodes.roll()
    assert [image_of(nodes, name) for name in ("db-0", "db-1", "db-2")] == ["none", "none", "new"]
    now = status(nodes)
    assert (now["currentRevision"], now["currentReplicas"], now["updatedReplicas"]) == (first, 2, 1)
    assert now["updateRevision"] != first
    # A pod below the partition that is lost comes back as it was.
    await nodes.store.delete("pods", "db-0", namespace="default", grace_seconds=0)
    await nodes.roll()
    assert image_of(nodes, "db-0") == "none"
    await set_image(nodes, "new", type="RollingUpdate", rollingUpdate={"partition": 0})
    await nodes.roll()
    assert {image_of(nodes, name) for name in names(nodes)} == {"new"}
    assert status(nodes)["currentRevision"] == status(nodes)["updateRevision"] == now["updateRevision"]


async def test_a_rolling_update_may_replace_several_at_once(nodes: Cluster) -> None:
    await nodes.store.create(SETS, stateful_set("db", 5, podManagementPolicy="Parallel"))
    await nodes.roll()
    await set_image(nodes, "new", type="RollingUpdate", rollingUpdate={"partition": 1, "maxUnavailable": "40%"})
    await nodes.settle()
    ending = [pod["metadata"]["name"] for pod in nodes.pods() if "deletionTimestamp" in pod["metadata"]]
    assert sorted(ending) == ["db-3", "db-4"]
    for _ in range(10):
        await nodes.settle()
        serving = [pod for pod in nodes.pods() if (pod.get("status") or {}).get("phase") == "Running"]
        assert sum("deletionTimestamp" not in pod["metadata"] for pod in serving) >= 3
        await nodes.run_pods()
    await nodes.roll()
    assert [image_of(nodes, name) for name in names(nodes)] == ["none", *["new"] * 4]


async def test_on_delete_waits_for_the_user(nodes: Cluster) -> None:
    await nodes.store.create(SETS, stateful_set("db", 2, updateStrategy={"type": "OnDelete"}))
    await nodes.roll()
    await set_image(nodes, "new")
    await nodes.roll()
    assert [image_of(nodes, name) for name in names(nodes)] == ["none", "none"]
    await nodes.store.delete("pods", "db-0", namespace="default", grace_seconds=0)
    await nodes.roll()
    assert [image_of(nodes, name) for name in names(nodes)] == ["new", "none"]


async def test_history_is_numbered_rolled_back_and_forgotten(nodes: Cluster) -> None:
    await nodes.store.create(SETS, stateful_set("db", 1, revisionHistoryLimit=1))
    await nodes.roll()
    (first,) = nodes.store.peek_all(REVISIONS)
    for image in ("b", "none"):
        await set_image(nodes, image)
        await nodes.roll()
    by_number = {entry["revision"]: entry["metadata"]["name"] for entry in nodes.store.peek_all(REVISIONS)}
    assert by_number[3] == first["metadata"]["name"]  # the old template is the newest again
    assert set(by_number) == {2, 3}
    for image in ("c", "d"):
        await set_image(nodes, image)
        await nodes.roll()
    assert len(nodes.store.peek_all(REVISIONS)) == 2  # the one in use and one more


async def test_a_pod_on_a_lost_node_is_not_replaced_before_it_is_gone(nodes: Cluster) -> None:
    await nodes.store.create(SETS, stateful_set("db", 1))
    await nodes.roll()
    await nodes.store.delete("pods", "db-0", namespace="default")
    await nodes.settle()
    (pod,) = nodes.pods()
    assert "deletionTimestamp" in pod["metadata"]
    await nodes.store.patch(
        "nodes", pod["spec"]["nodeName"], {"spec": {"taints": [{"key": "node.kubernetes.io/out-of-service",
        "effect": "NoExecute"}]}})  # fmt: skip
    node = nodes.store.peek("nodes", pod["spec"]["nodeName"]) or {}
    silent = {**node["status"]["conditions"][0], "status": "Unknown"}
    await nodes.store.update(
        "nodes", {**node, "status": {**node["status"], "conditions": [silent]}}, subresource="status"
    )
    await nodes.settle()
    (fresh,) = nodes.pods()
    assert fresh["metadata"]["uid"] != pod["metadata"]["uid"]
    assert fresh["spec"]["nodeName"] != pod["spec"]["nodeName"]


async def test_claims_are_kept_or_go_with_their_pods(nodes: Cluster) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "x"}
    body = stateful_set(
        "db",
        2,
        volumeClaimTemplates=[{"metadata": {"name": "data"}, "spec": claim}],
        podManagementPolicy="Parallel",
        persistentVolumeClaimRetentionPolicy={"whenScaled": "Delete", "whenDeleted": "Retain"},
    )
    await nodes.store.create(SETS, body)
    await nodes.settle()
    pod = nodes.store.peek("pods", "db-1", namespace="default") or {}
    assert pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == "data-db-1"
    assert [entry["metadata"]["name"] for entry in nodes.store.peek_all(CLAIMS)] == ["data-db-0", "data-db-1"]
    await nodes.store.patch(SETS, "db", {"spec": {"replicas": 1}}, namespace="default")
    await nodes.roll()
    assert [entry["metadata"]["name"] for entry in nodes.store.peek_all(CLAIMS)] == ["data-db-0"]
    await nodes.store.delete(SETS, "db", namespace="default", propagation="Background")
    await nodes.roll()
    assert [entry["metadata"]["name"] for entry in nodes.store.peek_all(CLAIMS)] == ["data-db-0"]
