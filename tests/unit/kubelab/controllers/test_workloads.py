"""Deployments, ReplicaSets and DaemonSets over the real store."""

from __future__ import annotations

import copy

import pytest
from unit.kubelab.controllers.cluster import Cluster, Object, deployment, template

DEPLOYMENTS, SETS, DAEMONS = "deployments.apps", "replicasets.apps", "daemonsets.apps"


def sets_of(cluster: Cluster) -> dict[str, int]:
    return {s["metadata"]["name"]: s["spec"]["replicas"] for s in cluster.store.peek_all(SETS)}


def get(cluster: Cluster, resource: str, name: str) -> Object:
    found = cluster.store.peek(resource, name, namespace="default")
    assert found is not None
    return found


def condition(obj: Object, kind: str) -> Object:
    return next(entry for entry in obj["status"]["conditions"] if entry["type"] == kind)


async def change(cluster: Cluster, name: str, image: str) -> None:
    changed = copy.deepcopy(get(cluster, DEPLOYMENTS, name))
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = image
    await cluster.store.update(DEPLOYMENTS, changed)


async def test_a_deployment_becomes_available(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.node("n2")
    await cluster.store.create(DEPLOYMENTS, deployment("web", 3))
    await cluster.settle()
    web = get(cluster, DEPLOYMENTS, "web")
    assert condition(web, "Available")["status"] == "False"
    assert condition(web, "Progressing")["reason"] == "ReplicaSetUpdated"
    await cluster.roll()
    web = get(cluster, DEPLOYMENTS, "web")
    assert web["status"]["readyReplicas"] == web["status"]["updatedReplicas"] == 3
    assert "unavailableReplicas" not in web["status"]
    assert condition(web, "Available")["status"] == "True"
    assert condition(web, "Progressing")["reason"] == "NewReplicaSetAvailable"
    assert web["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    nodes = sorted(pod["spec"]["nodeName"] for pod in cluster.pods(app="web"))
    assert nodes in (["n1", "n1", "n2"], ["n1", "n2", "n2"])
    assert len({pod["metadata"]["labels"]["pod-template-hash"] for pod in cluster.pods(app="web")}) == 1


async def test_scale_up_and_down(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create(DEPLOYMENTS, deployment("web", 1))
    await cluster.roll()
    await cluster.store.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 4}}, namespace="default")
    await cluster.roll()
    assert len(cluster.pods(app="web")) == 4
    await cluster.store.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 0}}, namespace="default")
    await cluster.roll()
    assert cluster.pods(app="web") == []
    assert get(cluster, DEPLOYMENTS, "web")["status"].get("replicas", 0) == 0


async def test_a_rolling_update_never_leaves_its_budget(cluster: Cluster) -> None:
    await cluster.node("n1")
    rolling = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}}
    await cluster.store.create(DEPLOYMENTS, deployment("web", 4, **rolling))
    await cluster.roll()
    await change(cluster, "web", "new")
    for _ in range(30):
        await cluster.settle()
        pods = [pod for pod in cluster.pods(app="web") if "deletionTimestamp" not in pod["metadata"]]
        ready = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]
        assert len(pods) <= 5
        assert len(ready) >= 3
        await cluster.run_pods()
    await cluster.roll()
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.pods(app="web")} == {"new"}
    assert sorted(sets_of(cluster).values()) == [0, 4]


async def test_an_update_that_never_gets_ready_stops_and_is_reported(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create(DEPLOYMENTS, deployment("web", 4, progressDeadlineSeconds=60))
    await cluster.roll()
    cluster.pass_time(1)
    await change(cluster, "web", "broken")
    await cluster.settle()
    ready = [pod for pod in cluster.pods(app="web") if (pod.get("status") or {}).get("phase") == "Running"]
    assert len([pod for pod in ready if "deletionTimestamp" not in pod["metadata"]]) == 3  # 25 % may be missing
    cluster.pass_time(61)
    await cluster.settle()
    found = condition(get(cluster, DEPLOYMENTS, "web"), "Progressing")
    assert (found["status"], found["reason"]) == ("False", "ProgressDeadlineExceeded")


async def test_roll_back_reuses_the_old_set(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create(DEPLOYMENTS, deployment("web", 2))
    await cluster.roll()
    (first,) = sets_of(cluster)
    await change(cluster, "web", "new")
    await cluster.roll()
    await change(cluster, "web", "none")
    await cluster.roll()
    assert sets_of(cluster)[first] == 2
    assert get(cluster, SETS, first)["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


async def test_history_is_limited(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create(DEPLOYMENTS, deployment("web", 1, revisionHistoryLimit=1))
    for image in ("a", "b", "c"):
        await change(cluster, "web", image)
        await cluster.roll()
    assert len(sets_of(cluster)) == 2


async def test_recreate_waits_for_the_old_pods(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create(DEPLOYMENTS, deployment("web", 2, strategy={"type": "Recreate"}))
    await cluster.roll()
    await change(cluster, "web", "new")
    await cluster.settle()
    assert all("deletionTimestamp" in pod["metadata"] for pod in cluster.pods(app="web"))
    await cluster.roll()
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.pods(app="web")} == {"new"}
    assert len(cluster.pods(app="web")) == 2


async def test_paused_deployments_scale_but_do_not_roll(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create(DEPLOYMENTS, deployment("web", 1))
    await cluster.roll()
    await cluster.store.patch(DEPLOYMENTS, "web", {"spec": {"paused": True, "replicas": 2}}, namespace="default")
    await change(cluster, "web", "new")
    await cluster.roll()
    assert list(sets_of(cluster).values()) == [2]
    await cluster.store.patch(DEPLOYMENTS, "web", {"spec": {"paused": False}}, namespace="default")
    await cluster.roll()
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.pods(app="web")} == {"new"}


async def test_pods_that_end_are_counted_until_they_are_gone(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create(DEPLOYMENTS, deployment("web", 3))
    await cluster.roll()
    await cluster.store.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 1}}, namespace="default")
    await cluster.settle()
    assert get(cluster, DEPLOYMENTS, "web")["status"]["terminatingReplicas"] == 2
    await cluster.roll()
    assert get(cluster, DEPLOYMENTS, "web")["status"]["terminatingReplicas"] == 0


async def test_a_size_that_changes_during_a_rollout_is_shared(cluster: Cluster) -> None:
    """The example of Kubernetes' documentation, "Proportional scaling"."""
    for number in range(9):
        await cluster.node(f"n{number}")
    rolling = {"maxSurge": 3, "maxUnavailable": 2}
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    await cluster.store.create(DEPLOYMENTS, deployment("web", 10, strategy=strategy))
    await cluster.roll()

    async def broken() -> None:
        """Old pods are gone, new ones never get ready."""
        for _ in range(6):
            await cluster.settle()
            for pod in cluster.pods(app="web"):
                if "deletionTimestamp" in pod["metadata"]:
                    await cluster.store.delete("pods", pod["metadata"]["name"], namespace="default", grace_seconds=0)

    await change(cluster, "web", "broken")
    await broken()
    assert sorted(sets_of(cluster).values()) == [5, 8]
    await cluster.store.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 15}}, namespace="default")
    await broken()
    assert sorted(sets_of(cluster).values()) == [7, 11]
    await cluster.store.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 5}}, namespace="default")
    await broken()
    assert sum(sets_of(cluster).values()) == 8
    assert min(sets_of(cluster).values()) == 3
    await cluster.roll()
    assert sorted(sets_of(cluster).values()) == [0, 5]


async def test_a_replica_set_replaces_adopts_and_releases(cluster: Cluster) -> None:
    await cluster.node("n1")
    orphan = {"metadata": {"name": "orphan", "labels": {"app": "db"}}, "spec": template()["spec"]}
    await cluster.store.create("pods", orphan, namespace="default")
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "db"}}, "template": template(app="db")}
    await cluster.store.create(SETS, {"metadata": {"name": "db"}, "spec": spec}, namespace="default")
    await cluster.roll()
    assert len(cluster.pods(app="db")) == 2  # the orphan counts
    await cluster.store.patch("pods", "orphan", {"metadata": {"labels": {"app": "debug"}}}, namespace="default")
    await cluster.roll()
    assert "ownerReferences" not in get(cluster, "pods", "orphan")["metadata"]
    assert len(cluster.pods(app="db")) == 2
    await cluster.store.delete("pods", cluster.pods(app="db")[0]["metadata"]["name"], namespace="default")
    await cluster.roll()
    assert len(cluster.pods(app="db")) == 2
    assert get(cluster, SETS, "db")["status"]["availableReplicas"] == 2


async def test_min_ready_seconds(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create(DEPLOYMENTS, deployment("web", 1, minReadySeconds=10))
    await cluster.roll()
    assert "availableReplicas" not in get(cluster, DEPLOYMENTS, "web")["status"]
    cluster.pass_time(11)
    await cluster.settle()
    assert get(cluster, DEPLOYMENTS, "web")["status"]["availableReplicas"] == 1


def daemon_set(name: str, **spec: object) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(app=name), **spec},
    }


async def test_a_daemon_set_follows_the_nodes(cluster: Cluster) -> None:
    await cluster.node("n1", ready="False")  # daemons come before the node is ready
    await cluster.node("n2")
    await cluster.store.create(DAEMONS, daemon_set("agent"))
    await cluster.roll()
    assert sorted(pod["spec"]["nodeName"] for pod in cluster.pods(app="agent")) == ["n1", "n2"]
    await cluster.node("n3")
    await cluster.roll()
    status = get(cluster, DAEMONS, "agent")["status"]
    assert status["desiredNumberScheduled"] == status["numberReady"] == status["numberAvailable"] == 3
    await cluster.store.delete("nodes", "n2")
    await cluster.roll()
    assert sorted(pod["spec"]["nodeName"] for pod in cluster.pods(app="agent")) == ["n1", "n3"]


async def test_a_daemon_set_respects_taints_and_selectors(cluster: Cluster) -> None:
    await cluster.node("n1", taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
    await cluster.node("n2")
    await cluster.store.create(DAEMONS, daemon_set("plain"))
    tolerant = daemon_set("tolerant")
    tolerant["spec"]["template"]["spec"]["tolerations"] = [{"operator": "Exists"}]
    tolerant["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "n1"}
    await cluster.store.create(DAEMONS, tolerant)
    await cluster.roll()
    assert [pod["spec"]["nodeName"] for pod in cluster.pods(app="plain")] == ["n2"]
    assert [pod["spec"]["nodeName"] for pod in cluster.pods(app="tolerant")] == ["n1"]


async def test_a_daemon_set_updates_one_node_at_a_time(cluster: Cluster) -> None:
    for name in ("n1", "n2", "n3"):
        await cluster.node(name)
    await cluster.store.create(DAEMONS, daemon_set("agent"))
    await cluster.roll()
    changed = copy.deepcopy(get(cluster, DAEMONS, "agent"))
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "new"
    await cluster.store.update(DAEMONS, changed)
    for _ in range(10):
        await cluster.settle()
        serving = [
            pod
            for pod in cluster.pods(app="agent")
            if (pod.get("status") or {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]
        assert len(serving) >= 2
        await cluster.run_pods()
    await cluster.roll()
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.pods(app="agent")} == {"new"}
    assert get(cluster, DAEMONS, "agent")["status"]["updatedNumberScheduled"] == 3
    assert len(cluster.store.peek_all("controllerrevisions.apps")) == 2


@pytest.mark.parametrize("never_ready", [False, True])
async def test_a_daemon_set_with_a_surge_is_never_without_a_pod(cluster: Cluster, never_ready: bool) -> None:
    nodes = ("n1", "n2", "n3")
    for name in nodes:
        await cluster.node(name)
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}}
    await cluster.store.create(DAEMONS, daemon_set("agent", updateStrategy=strategy))
    await cluster.roll()
    changed = copy.deepcopy(get(cluster, DAEMONS, "agent"))
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "new"
    cluster.pass_time(1)
    await cluster.store.update(DAEMONS, changed)
    await cluster.settle()
    assert len(cluster.pods(app="agent")) == 5
    for _ in range(6):
        active = [pod for pod in cluster.pods(app="agent") if "deletionTimestamp" not in pod["metadata"]]
        running = {pod["spec"]["nodeName"] for pod in active if (pod.get("status") or {}).get("phase") == "Running"}
        assert running == set(nodes)
        assert len(active) <= 5
        if not never_ready:
            await cluster.run_pods()
        await cluster.settle()
    updated = get(cluster, DAEMONS, "agent")["status"].get("updatedNumberScheduled", 0)
    assert updated == (0 if never_ready else 3)
    if never_ready:  # the way back is free: what came beside goes
        await cluster.store.update(DAEMONS, {**get(cluster, DAEMONS, "agent"), "spec": changed["spec"] | {
            "template": daemon_set("agent")["spec"]["template"]}})  # fmt: skip
        await cluster.roll()
    images = [pod["spec"]["containers"][0]["image"] for pod in cluster.pods(app="agent")]
    assert images == (["none"] if never_ready else ["new"]) * 3


async def test_failed_daemon_pods_are_replaced(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create(DAEMONS, daemon_set("agent"))
    await cluster.roll()
    (pod,) = cluster.pods(app="agent")
    await cluster.store.update("pods", {**pod, "status": {"phase": "Failed"}}, subresource="status")
    await cluster.roll()
    (fresh,) = cluster.pods(app="agent")
    assert fresh["metadata"]["uid"] != pod["metadata"]["uid"]


async def test_a_deployment_hands_its_annotations_on(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create("deployments.apps", deployment("web", 4))
    await cluster.roll()
    change = {"metadata": {"annotations": {"kubernetes.io/change-cause": "first"}}, "spec": {"minReadySeconds": 3}}
    await cluster.store.patch("deployments.apps", "web", change, namespace="default")
    await cluster.settle()
    (found,) = cluster.store.peek_all("replicasets.apps")
    annotations = found["metadata"]["annotations"]
    assert annotations["kubernetes.io/change-cause"] == "first"  # `kubectl rollout history` shows it
    assert annotations["deployment.kubernetes.io/max-replicas"] == "5"
    assert found["spec"]["minReadySeconds"] == 3


async def test_a_replication_controller_keeps_its_pods(cluster: Cluster) -> None:
    await cluster.node("n1")
    body = {"metadata": {"name": "old"}, "spec": {"replicas": 2, "template": template(app="old")}}
    await cluster.store.create("replicationcontrollers", body, namespace="default")
    await cluster.roll()
    assert len(cluster.pods(app="old")) == 2
    found = cluster.store.peek("replicationcontrollers", "old", namespace="default") or {}
    assert (found["status"]["readyReplicas"], found["spec"]["selector"]) == (2, {"app": "old"})
    await cluster.store.patch("replicationcontrollers", "old", {"spec": {"replicas": 1}}, namespace="default")
    await cluster.roll()
    assert len(cluster.pods(app="old")) == 1
