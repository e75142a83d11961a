"""Namespaces, service accounts, owner garbage collection, the work queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from unit.kubelab.controllers.cluster import Cluster, deployment

from kubelab.apiserver.errors import NotFound
from kubelab.apiserver.watch import Event, Watch
from kubelab.controllers.queue import WorkQueue


async def test_namespaces_start_with_an_account_and_the_ca(dual_stack: Cluster) -> None:
    await dual_stack.store.create("namespaces", {"metadata": {"name": "shop"}})
    await dual_stack.settle()
    assert dual_stack.store.peek("serviceaccounts", "default", namespace="shop")
    config = dual_stack.store.peek("configmaps", "kube-root-ca.crt", namespace="shop") or {}
    assert config["data"] == {"ca.crt": "PEM"}
    await dual_stack.store.delete("serviceaccounts", "default", namespace="shop")
    await dual_stack.store.patch("configmaps", "kube-root-ca.crt", {"data": {"ca.crt": "x"}}, namespace="shop")
    await dual_stack.settle()
    assert dual_stack.store.peek("serviceaccounts", "default", namespace="shop")
    assert (dual_stack.store.peek("configmaps", "kube-root-ca.crt", namespace="shop") or {})["data"] == {
        "ca.crt": "PEM"
    }


async def test_a_namespace_goes_after_its_content(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create("namespaces", {"metadata": {"name": "shop"}})
    shop = deployment("web", 2)
    shop["metadata"]["namespace"] = "shop"
    await cluster.store.create("deployments.apps", shop)
    held = {"metadata": {"name": "held", "finalizers": ["example.com/hold"]}}
    await cluster.store.create("configmaps", held, namespace="shop")
    await cluster.roll()
    await cluster.store.delete("namespaces", "shop")
    await cluster.settle()
    namespace = cluster.store.peek("namespaces", "shop") or {}
    assert namespace["status"]["phase"] == "Terminating"
    await cluster.roll()
    conditions = {
        entry["type"]: entry["message"]
        for entry in (cluster.store.peek("namespaces", "shop") or {})["status"]["conditions"]
    }
    held_by = "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
    assert conditions["NamespaceContentRemaining"].endswith("configmaps. has 1 resource instances")
    assert conditions["NamespaceFinalizersRemaining"] == held_by
    assert conditions["NamespaceDeletionDiscoveryFailure"] == "All resources successfully discovered"
    await cluster.store.patch("configmaps", "held", {"metadata": {"finalizers": None}}, namespace="shop")
    await cluster.roll()
    assert cluster.store.peek("namespaces", "shop") is None
    assert [pod for pod in cluster.store.peek_all("pods") if pod["metadata"]["namespace"] == "shop"] == []


async def owned(cluster: Cluster, name: str, *owners: str, blocking: bool = True) -> str:
    references = []
    for owner in owners:
        found = cluster.store.peek("configmaps", owner, namespace="default")
        uid = found["metadata"]["uid"] if found else f"gone-{owner}"
        references.append(
            {"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid, "blockOwnerDeletion": blocking}
        )
    obj = {"metadata": {"name": name, "ownerReferences": references}}
    await cluster.store.create("configmaps", obj, namespace="default")
    return name


def names(cluster: Cluster) -> set[str]:
    return {obj["metadata"]["name"] for obj in cluster.store.peek_all("configmaps", namespace="default")}


async def test_background_deletion_follows(cluster: Cluster) -> None:
    for name, owner in (("a", ()), ("b", ("a",)), ("c", ("b",)), ("other", ())):
        await owned(cluster, name, *owner)
    await owned(cluster, "shared", "a", "other")
    await cluster.settle()
    await cluster.store.delete("configmaps", "a", namespace="default", propagation="Background")
    await cluster.settle()
    assert names(cluster) == {"other", "shared"}
    shared = cluster.store.peek("configmaps", "shared", namespace="default") or {}
    assert [owner["name"] for owner in shared["metadata"]["ownerReferences"]] == ["other"]


async def test_dependents_of_nobody_are_deleted(cluster: Cluster) -> None:
    await owned(cluster, "late", "never-was")
    await cluster.settle()
    assert names(cluster) == set()


async def test_unknown_kinds_of_owners_are_left_alone(cluster: Cluster) -> None:
    reference = {"apiVersion": "example.com/v1", "kind": "Thing", "name": "x", "uid": "1"}
    obj = {"metadata": {"name": "kept", "ownerReferences": [reference]}}
    await cluster.store.create("configmaps", obj, namespace="default")
    await cluster.settle()
    assert names(cluster) == {"kept"}


async def test_foreground_deletion_waits_for_dependents(cluster: Cluster) -> None:
    await owned(cluster, "a")
    await owned(cluster, "b", "a")
    await owned(cluster, "c", "b")
    await cluster.store.patch(
        "configmaps", "c", {"metadata": {"finalizers": ["example.com/hold"]}}, namespace="default"
    )
    await cluster.settle()
    await cluster.store.delete("configmaps", "a", namespace="default", propagation="Foreground")
    await cluster.settle()
    assert names(cluster) == {"a", "b", "c"}
    await cluster.store.patch("configmaps", "c", {"metadata": {"finalizers": None}}, namespace="default")
    await cluster.settle()
    assert names(cluster) == set()


async def test_orphans_lose_their_owner_and_stay(cluster: Cluster) -> None:
    await owned(cluster, "a")
    await owned(cluster, "b", "a")
    await cluster.settle()
    await cluster.store.delete("configmaps", "a", namespace="default", propagation="Orphan")
    await cluster.settle()
    assert names(cluster) == {"b"}
    kept = cluster.store.peek("configmaps", "b", namespace="default") or {}
    assert "ownerReferences" not in kept["metadata"]


async def test_deleting_a_deployment_deletes_everything_below(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create("deployments.apps", deployment("web", 3))
    await cluster.roll()
    await cluster.store.delete("deployments.apps", "web", namespace="default", propagation="Foreground")
    await cluster.roll()
    assert cluster.pods() == []
    assert cluster.store.peek_all("replicasets.apps") == []
    with pytest.raises(NotFound):
        await cluster.store.get("deployments.apps", "web", namespace="default")


async def test_a_restart_catches_up_with_what_happened_meanwhile(cluster: Cluster) -> None:
    await cluster.node("n1")
    await cluster.store.create("namespaces", {"metadata": {"name": "shop"}})
    await cluster.store.create("deployments.apps", deployment("old", 1))
    await owned(cluster, "a")
    await owned(cluster, "b", "a")
    await cluster.roll()
    cluster.stop()
    await cluster.store.delete("configmaps", "a", namespace="default", propagation="Background")
    await cluster.store.delete("deployments.apps", "old", namespace="default", propagation="Foreground")
    await cluster.store.delete("namespaces", "shop")
    await cluster.store.create("deployments.apps", deployment("new", 2))
    assert names(cluster) == {"b"}
    cluster.start()
    await cluster.roll()
    assert names(cluster) == set()
    assert cluster.store.peek("namespaces", "shop") is None
    assert {pod["metadata"]["labels"]["app"] for pod in cluster.pods()} == {"new"}
    version = cluster.store.version
    cluster.stop()
    cluster.start()
    await cluster.roll()
    assert cluster.store.version == version  # a restart alone writes nothing


async def test_the_queue_merges_and_repeats() -> None:
    queue: WorkQueue[str] = WorkQueue(retry_min=0.001, retry_max=0.004)
    queue.add("a")
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")  # while it is worked on: comes again
    assert queue.idle is False
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert queue.idle
    assert [queue.retry("b") for _ in range(4)] == [0.001, 0.002, 0.004, 0.004]
    queue.forget("b")
    assert queue.retry("b") == 0.001
    async with asyncio.timeout(1):
        assert await queue.get() == "b"
    queue.close()


async def until_added(events: Watch) -> AsyncIterator[Event]:
    async for event in events:
        yield event
        if event.type == "ADDED":
            return


async def test_running_controllers_stop_when_cancelled(cluster: Cluster) -> None:
    task = asyncio.create_task(cluster.manager.run())
    await cluster.store.create("namespaces", {"metadata": {"name": "shop"}})
    async with asyncio.timeout(2):
        with cluster.store.watch("serviceaccounts", namespace="shop") as events:
            assert "ADDED" in [event.type async for event in until_added(events)]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_key_may_rest_between_two_turns() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")  # again, while it is worked on
    queue.done("a", rest=0.03)
    queue.add("b")
    assert await queue.get() == "b"  # others are not held up
    started = asyncio.get_running_loop().time()
    assert await asyncio.wait_for(queue.get(), 5) == "a"
    assert asyncio.get_running_loop().time() - started > 0.01
    queue.close()


async def test_api_services_are_available_when_what_they_name_is_there(cluster: Cluster) -> None:
    kind = "apiservices.apiregistration.k8s.io"

    async def promised(group: str, service: str = "") -> str:
        spec = {"group": group, "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100}
        if service:
            spec["service"] = {"namespace": "default", "name": service}
        await cluster.store.create(kind, {"metadata": {"name": f"v1.{group}"}, "spec": spec})
        await cluster.settle()
        return reason(group)

    def reason(group: str) -> str:
        (condition,) = cluster.store.peek(kind, f"v1.{group}")["status"]["conditions"]
        return str(condition["reason"])

    assert await promised("own.example") == "Local"
    assert await promised("far.example", "far") == "ServiceNotFound"
    port = {"name": "https", "port": 443}
    service = {"metadata": {"name": "far"}, "spec": {"ports": [port], "selector": {"app": "far"}}}
    await cluster.store.create("services", service, namespace="default")
    await cluster.settle()
    assert reason("far.example") == "MissingEndpoints"
    piece = {
        "metadata": {"name": "far-x", "labels": {"kubernetes.io/service-name": "far"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.9"], "conditions": {"ready": True}}],
        "ports": [port],
    }
    await cluster.store.create("endpointslices.discovery.k8s.io", piece, namespace="default")
    await cluster.settle()
    assert reason("far.example") == "FailedDiscoveryCheck"
