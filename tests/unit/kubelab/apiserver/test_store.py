"""The store: writes and their rules, deletion, watches, restart."""

import asyncio
import copy
from pathlib import Path
from typing import Any

import pytest

from kubelab.apiserver import errors
from kubelab.apiserver.store import Store
from kubelab.apiserver.watch import WINDOW

DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "web"},
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "nginx"}]},
        },
    },
}


async def test_create_fills_in_what_the_server_owns(store, pod):
    created = await store.create("pods", pod(), namespace="default")

    metadata = created["metadata"]
    assert metadata["uid"]
    assert metadata["resourceVersion"] == str(store.version)
    assert metadata["creationTimestamp"].endswith("Z")
    assert created["kind"] == "Pod"
    assert created["apiVersion"] == "v1"
    assert created["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert created["spec"]["restartPolicy"] == "Always"


async def test_create_twice_is_refused_and_leaves_the_first(store, pod):
    first = await store.create("pods", pod(), namespace="default")
    with pytest.raises(errors.AlreadyExists, match='pods "web" already exists'):
        await store.create("pods", pod(), namespace="default")
    assert await store.get("pods", "web", namespace="default") == first


async def test_create_in_an_absent_or_dying_namespace_is_refused(store, pod):
    with pytest.raises(errors.NotFound, match='namespaces "nowhere" not found'):
        await store.create("pods", pod(), namespace="nowhere")
    await store.create("namespaces", {"metadata": {"name": "dying"}})
    await store.delete("namespaces", "dying")
    with pytest.raises(errors.Forbidden, match="being terminated"):
        await store.create("pods", pod(), namespace="dying")


async def test_generate_name_makes_distinct_names(store, pod):
    wanted = pod()
    wanted["metadata"] = {"generateName": "web-"}
    names = {(await store.create("pods", wanted, namespace="default"))["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("web-") for name in names)


async def test_stale_update_conflicts_and_changes_nothing(store):
    first = await store.create("deployments.apps", DEPLOYMENT, namespace="default")
    newer = copy.deepcopy(first)
    newer["spec"]["replicas"] = 2
    await store.update("deployments.apps", newer)
    stale = copy.deepcopy(first)
    stale["spec"]["replicas"] = 9
    with pytest.raises(errors.Conflict, match="the object has been modified"):
        await store.update("deployments.apps", stale)
    assert (await store.get("deployments.apps", "web", namespace="default"))["spec"]["replicas"] == 2


async def test_update_without_a_change_commits_nothing(store):
    first = await store.create("deployments.apps", DEPLOYMENT, namespace="default")
    before = store.version
    await store.update("deployments.apps", copy.deepcopy(first))
    assert store.version == before


async def test_generation_counts_changes_of_spec_only(store):
    created = await store.create("deployments.apps", DEPLOYMENT, namespace="default")
    assert created["metadata"]["generation"] == 1
    labelled = await store.patch("deployments.apps", "web", {"metadata": {"labels": {"a": "b"}}}, namespace="default")
    assert labelled["metadata"]["generation"] == 1
    scaled = await store.patch("deployments.apps", "web", {"spec": {"replicas": 3}}, namespace="default")
    assert scaled["metadata"]["generation"] == 2


async def test_status_and_spec_are_written_by_their_own_doors(store):
    await store.create("deployments.apps", DEPLOYMENT, namespace="default")
    by_status = await store.patch(
        "deployments.apps",
        "web",
        {"spec": {"replicas": 7}, "status": {"replicas": 4}},
        namespace="default",
        subresource="status",
    )
    assert by_status["spec"]["replicas"] == 1
    assert by_status["status"] == {"replicas": 4}
    by_spec = await store.patch(
        "deployments.apps", "web", {"spec": {"replicas": 7}, "status": {"replicas": 0}}, namespace="default"
    )
    assert by_spec["spec"]["replicas"] == 7
    assert by_spec["status"] == {"replicas": 4}


async def test_dry_run_leaves_no_trace(store, pod):
    before = store.version
    await store.create("pods", pod(), namespace="default", dry_run=True)
    assert store.version == before
    with pytest.raises(errors.NotFound):
        await store.get("pods", "web", namespace="default")


async def test_finalizers_hold_a_deleted_object_until_the_last_is_gone(store):
    config = {"metadata": {"name": "held", "finalizers": ["demo.io/a", "demo.io/b"]}}
    await store.create("configmaps", config, namespace="default")
    held = await store.delete("configmaps", "held", namespace="default")
    assert held["metadata"]["deletionTimestamp"]
    version = store.version
    await store.delete("configmaps", "held", namespace="default")
    assert store.version == version, "deleting again moves nothing"
    await store.patch("configmaps", "held", {"metadata": {"finalizers": ["demo.io/b"]}}, namespace="default")
    assert store.peek("configmaps", "held", namespace="default") is not None
    await store.patch("configmaps", "held", {"metadata": {"finalizers": None}}, namespace="default")
    assert store.peek("configmaps", "held", namespace="default") is None


@pytest.mark.parametrize(("propagation", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
async def test_propagation_leaves_the_collector_a_finalizer(store, propagation, finalizer):
    await store.create("deployments.apps", DEPLOYMENT, namespace="default")
    left = await store.delete("deployments.apps", "web", namespace="default", propagation=propagation)
    assert left["metadata"]["finalizers"] == [finalizer]
    assert left["metadata"]["deletionTimestamp"]


async def test_a_scheduled_pod_waits_for_its_kubelet_an_unscheduled_one_goes(store, pod):
    await store.create("pods", pod("free"), namespace="default")
    await store.delete("pods", "free", namespace="default")
    assert store.peek("pods", "free", namespace="default") is None

    bound = pod("bound")
    bound["spec"]["nodeName"] = "n1"
    await store.create("pods", bound, namespace="default")
    left = await store.delete("pods", "bound", namespace="default")
    assert left["metadata"]["deletionGracePeriodSeconds"] == 30
    await store.delete("pods", "bound", namespace="default", grace_seconds=0)
    assert store.peek("pods", "bound", namespace="default") is None


async def test_a_namespace_goes_when_its_finalizer_is_emptied(store):
    await store.create("namespaces", {"metadata": {"name": "team"}})
    dying = copy.deepcopy(await store.delete("namespaces", "team"))
    assert dying["status"]["phase"] == "Terminating"
    dying["spec"]["finalizers"] = []
    await store.update("namespaces", dying, subresource="finalize")
    assert store.peek("namespaces", "team") is None
    with pytest.raises(errors.Forbidden, match="may not be deleted"):
        await store.delete("namespaces", "default")


async def test_delete_checks_uid_and_version(store, pod):
    created = copy.deepcopy(await store.create("pods", pod(), namespace="default"))["metadata"]
    with pytest.raises(errors.Conflict, match="UID in precondition"):
        await store.delete("pods", "web", namespace="default", uid="another")
    changed = copy.deepcopy(store.peek("pods", "web", namespace="default"))
    changed["metadata"]["labels"] = {"changed": "since"}
    await store.update("pods", changed, namespace="default")
    with pytest.raises(errors.Conflict):
        await store.delete("pods", "web", namespace="default", uid=created["uid"], version=created["resourceVersion"])
    now = store.peek("pods", "web", namespace="default")["metadata"]["resourceVersion"]
    await store.delete("pods", "web", namespace="default", uid=created["uid"], version=now, grace_seconds=0)
    assert store.peek("pods", "web", namespace="default") is None


async def next_events(watch, count: int):
    found = []
    async with asyncio.timeout(5):
        while len(found) < count:
            found += await watch.wait()
    return found


async def test_watch_begins_with_what_is_there_then_follows(store, pod):
    await store.create("pods", pod("a"), namespace="default")
    with store.watch("pods") as watch:
        first = await next_events(watch, 2)
        assert [(e.type, e.initial_end) for e in first] == [("ADDED", False), ("BOOKMARK", True)]
        await store.create("pods", pod("b"), namespace="default")
        await store.patch("pods", "b", {"metadata": {"labels": {"x": "y"}}}, namespace="default")
        await store.delete("pods", "a", namespace="default")
        events = await next_events(watch, 3)
    assert [(e.type, e.object["metadata"]["name"]) for e in events] == [
        ("ADDED", "b"),
        ("MODIFIED", "b"),
        ("DELETED", "a"),
    ]
    versions = [e.version for e in events]
    assert versions == sorted(versions)


async def test_watch_with_a_selector_translates_entering_and_leaving(store, pod):
    with store.watch("pods", labels="app=web", since=store.version) as watch:
        await store.create("pods", pod("p"), namespace="default")
        await store.patch("pods", "p", {"metadata": {"labels": {"app": "web"}}}, namespace="default")
        await store.patch("pods", "p", {"metadata": {"labels": {"more": "1"}}}, namespace="default")
        await store.patch("pods", "p", {"metadata": {"labels": {"app": None}}}, namespace="default")
        await store.delete("pods", "p", namespace="default")
        assert [e.type for e in watch.pop()] == ["ADDED", "MODIFIED", "DELETED"]


async def test_watch_resumes_and_forgets_only_beyond_its_window(store):
    start = store.version
    await store.create("configmaps", {"metadata": {"name": "c"}}, namespace="default")
    for turn in range(WINDOW + 1):
        await store.patch("configmaps", "c", {"data": {"turn": str(turn)}}, namespace="default")
    with pytest.raises(errors.Expired, match="too old resource version"):
        store.watch("configmaps", since=start)
    with store.watch("configmaps", since=store.version - 2) as watch:
        assert [e.object["data"]["turn"] for e in watch.pop()] == [str(WINDOW - 1), str(WINDOW)]
    with pytest.raises(errors.Expired, match="future"):
        store.watch("configmaps", since=store.version + 1)


async def test_a_reader_that_sleeps_is_told_to_list_again(store):
    with store.watch("configmaps", since=store.version) as watch:
        await store.create("configmaps", {"metadata": {"name": "c"}}, namespace="default")
        for turn in range(WINDOW * 4 + 1):
            await store.patch("configmaps", "c", {"data": {"turn": str(turn)}}, namespace="default")
        with pytest.raises(errors.Expired, match="too slow"):
            await watch.wait()


async def test_field_selectors_and_their_refusal(store, pod):
    bound = pod("bound")
    bound["spec"]["nodeName"] = "n1"
    await store.create("pods", bound, namespace="default")
    await store.create("pods", pod("free"), namespace="default")
    listing = await store.list("pods", fields="spec.nodeName=n1,metadata.namespace=default")
    assert [o["metadata"]["name"] for o in listing.items] == ["bound"]
    with pytest.raises(errors.BadRequest, match=r"field label not supported: spec.nope"):
        await store.list("pods", fields="spec.nope=1")


async def test_restart_keeps_objects_versions_and_lets_watches_resume(open_store, tmp_path: Path, pod):
    path = tmp_path / "objects.sqlite"
    first: Store = open_store(path)
    await first.create("namespaces", {"metadata": {"name": "default"}})
    kept = await first.create("pods", pod("kept"), namespace="default")
    await first.create("pods", pod("gone"), namespace="default")
    await first.delete("pods", "gone", namespace="default")
    seen = first.version
    await first.create("configmaps", {"metadata": {"name": "later"}}, namespace="default")
    version = first.version
    first.close()

    second: Store = open_store(path)
    assert second.version == version
    assert await second.get("pods", "kept", namespace="default") == kept
    with pytest.raises(errors.NotFound):
        await second.get("pods", "gone", namespace="default")
    with second.watch("pods", since=seen) as watch:
        await second.create("pods", pod("new"), namespace="default")
        assert [(e.type, e.object["metadata"]["name"]) for e in watch.pop()] == [("ADDED", "new")]
    with pytest.raises(errors.Expired):
        second.watch("pods", since=seen - 1)
    second.close()


async def test_two_servers_on_one_directory_are_refused(open_store, tmp_path: Path):
    first = open_store(tmp_path / "objects.sqlite")
    with pytest.raises(RuntimeError, match="another API server"):
        open_store(tmp_path / "objects.sqlite")
    first.close()
