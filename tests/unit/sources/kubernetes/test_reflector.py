"""Reflectors against a server that restarts, forgets, hangs and talks nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from unit.sources.kubernetes.fake_api import FakeAPI, eventually

from cilium.sources.kubernetes.client import Client
from cilium.sources.kubernetes.config import ClientConfig
from cilium.sources.kubernetes.source import AGENT, KubernetesSource, Resource
from cilium.sources.kubernetes.tables import KubernetesTables
from cilium.state import Table

PODS, NAMESPACES, KNP, CNP = (
    Resource.PODS.value,
    Resource.NAMESPACES.value,
    Resource.NETWORK_POLICIES.value,
    Resource.CILIUM_NETWORK_POLICIES.value,
)


def pod(name: str, node: str = "n1", ip: str = "10.0.0.1", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "labels": labels},
        "spec": {"nodeName": node},
        "status": {"podIPs": [{"ip": ip}]},
    }


def policy(name: str, spec: Any = None) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": spec if spec is not None else {"podSelector": {}, "policyTypes": ["Ingress"]},
    }


@asynccontextmanager
async def running(api: FakeAPI, **options: Any) -> AsyncIterator[tuple[KubernetesTables, KubernetesSource]]:
    tables = KubernetesTables()
    async with asyncio.timeout(20), Client(ClientConfig(server=api.url)) as client:
        source = KubernetesSource(client=client, tables=tables, **({"node": "n1", "cluster": "default"} | options))
        task = asyncio.create_task(source.run())
        try:
            yield tables, source
        finally:
            task.cancel()
            await asyncio.wait({task})


async def until(table: Table[Any, Any], condition: Callable[[], bool]) -> None:
    """The table's changes wake us, nothing else."""
    stream = table.changes()
    while not condition():
        stream.pop()
        if condition():
            return
        await stream.wait()


async def test_lists_then_follows_and_only_this_nodes_pods() -> None:
    async with FakeAPI() as api:
        await api.put(PODS, "default/a", pod("a", app="web"))
        await api.put(PODS, "default/elsewhere", pod("elsewhere", node="n2"))
        async with running(api) as (tables, source):
            for table in tables:
                await table.wait_initialized()
            assert {row.name for row in tables.pods.snapshot()} == {"a"}
            await api.put(PODS, "default/b", pod("b", ip="fd00::b"))
            await until(tables.pods, lambda: "default/b" in tables.pods.snapshot())
            await api.put(PODS, "default/a", pod("a", app="api"))
            await until(tables.pods, lambda: tables.pods.snapshot()["default/a"].labels == {"app": "api"})
            await api.remove(PODS, "default/b")
            await until(tables.pods, lambda: "default/b" not in tables.pods.snapshot())
            assert all(health.connected and health.listed for health in source.health())
            assert len(source.health()) == len(AGENT)


async def test_a_list_of_many_pages_is_one_commit() -> None:
    async with FakeAPI() as api:
        for i in range(1203):
            await api.put(NAMESPACES, f"ns{i}", {"metadata": {"name": f"ns{i}"}})
        async with running(api, resources={Resource.NAMESPACES}) as (tables, _):
            await tables.namespaces.wait_initialized()
            assert len(tables.namespaces) == 1203
            assert tables.namespaces.revision == 1
        pages = [query for _, path, query in api.requests if path == NAMESPACES and "watch" not in query]
        assert [query.get("continue") for query in pages] == [None, "500", "1000"]


async def test_loss_of_the_server_clears_nothing_and_a_restart_catches_up() -> None:
    async with FakeAPI() as api:
        await api.put(PODS, "default/a", pod("a"))
        await api.put(PODS, "default/b", pod("b"))
        async with running(api, resources={Resource.PODS}) as (tables, source):
            await tables.pods.wait_initialized()
            await api.stop()
            await eventually(lambda: not source.health()[0].connected)
            assert len(tables.pods) == 2
            assert source.health()[0].error
            await api.remove(PODS, "default/b")
            await api.put(PODS, "default/c", pod("c"))
            await api.start()
            await until(tables.pods, lambda: sorted(tables.pods.snapshot().keys()) == ["default/a", "default/c"])
            assert source.health()[0].connected
            assert source.health()[0].error == ""
        lists = [1 for _, path, query in api.requests if path == PODS and "watch" not in query]
        assert len(lists) == 1, "resumed from where it was, no list"


async def test_410_leads_to_a_list_that_changes_only_what_changed() -> None:
    async with FakeAPI() as api:
        for name in "abc":
            await api.put(PODS, f"default/{name}", pod(name))
        async with running(api, resources={Resource.PODS}) as (tables, _):
            await tables.pods.wait_initialized()
            changes = tables.pods.changes()
            changes.pop()
            await api.stop()
            await api.remove(PODS, "default/b")
            await api.put(PODS, "default/d", pod("d"))
            api.compact()
            await api.start()
            await until(tables.pods, lambda: "default/d" in tables.pods.snapshot())
            assert {(c.key, c.new is None) for c in changes.pop()} == {("default/b", True), ("default/d", False)}


async def test_an_error_event_410_leads_to_a_list_too() -> None:
    async with FakeAPI() as api:
        await api.put(PODS, "default/a", pod("a"))
        async with running(api, resources={Resource.PODS}) as (tables, _):
            await tables.pods.wait_initialized()
            await api.put(PODS, "default/b", pod("b"))
            await until(tables.pods, lambda: len(tables.pods) == 2)
            api.objects[PODS].pop("default/a")  # an event nobody will ever see
            await api.emit(PODS, "ERROR", {"spec": {"nodeName": "n1"}, "code": 410, "message": "expired"})
            await until(tables.pods, lambda: list(tables.pods.snapshot().keys()) == ["default/b"])


async def test_nonsense_is_quarantined_and_the_rest_goes_on() -> None:
    async with FakeAPI() as api:
        await api.put(PODS, "default/a", pod("a", ip="10.0.0.1"))
        await api.put(PODS, "default/bad", pod("bad", ip="10.0.0.256"))
        async with running(api, resources={Resource.PODS}) as (tables, source):
            await tables.pods.wait_initialized()
            assert list(tables.pods.snapshot().keys()) == ["default/a"]
            (entry,) = source.quarantine()
            assert (entry.resource, entry.object, entry.kept) == ("pods", "default/bad", False)
            assert entry.reason.startswith("status.podIPs: '10.0.0.256'")
            await api.put(PODS, "default/a", {**pod("a"), "status": {"podIPs": 7}})
            await api.put(PODS, "default/b", pod("b"))
            await until(tables.pods, lambda: "default/b" in tables.pods.snapshot())
            assert str(tables.pods.snapshot()["default/a"].ips[0]) == "10.0.0.1", "the last readable version stays"
            assert {row.object: row.kept for row in source.quarantine()} == {"default/a": True, "default/bad": False}
            await api.remove(PODS, "default/bad")
            await api.put(PODS, "default/a", pod("a", ip="10.0.0.9"))
            await until(tables.pods, lambda: str(tables.pods.snapshot()["default/a"].ips[0]) == "10.0.0.9")
            assert source.quarantine() == []


async def test_bytes_that_are_no_event_lead_to_a_new_list() -> None:
    async with FakeAPI() as api:
        await api.put(NAMESPACES, "one", {"metadata": {"name": "one"}})
        async with running(api, resources={Resource.NAMESPACES}) as (tables, _):
            await tables.namespaces.wait_initialized()
            await api.put(NAMESPACES, "two", {"metadata": {"name": "two"}})
            await until(tables.namespaces, lambda: len(tables.namespaces) == 2)
            api.objects[NAMESPACES]["three"] = {"metadata": {"name": "three"}}
            await api.emit(NAMESPACES, "BYTES", b"\x00garbage{{{\n")
            await until(tables.namespaces, lambda: "three" in tables.namespaces.snapshot())


async def test_objects_without_metadata_and_bookmarks_do_no_harm() -> None:
    async with FakeAPI() as api:
        await api.put(NAMESPACES, "odd", 42)
        await api.put(NAMESPACES, "one", {"metadata": {"name": "one"}})
        async with running(api, resources={Resource.NAMESPACES}) as (tables, source):
            await tables.namespaces.wait_initialized()
            assert list(tables.namespaces.snapshot().keys()) == ["one"]
            assert [row.object for row in source.quarantine()] == ["(no metadata)"]
            await api.emit(NAMESPACES, "BOOKMARK", {"metadata": {"resourceVersion": "4711"}})
            await eventually(lambda: source.health()[0].resource_version == "4711")
            assert list(tables.namespaces.snapshot().keys()) == ["one"]


async def test_a_slow_server_delays_initialisation_and_nothing_else() -> None:
    async with FakeAPI() as api:
        await api.put(NAMESPACES, "one", {"metadata": {"name": "one"}})
        api.hang = asyncio.Event()
        async with running(api, resources={Resource.NAMESPACES}) as (tables, source):
            await eventually(lambda: api.requests)
            assert not tables.namespaces.initialized
            assert not source.health()[0].listed
            api.hang.set()
            await tables.namespaces.wait_initialized()
            assert len(tables.namespaces) == 1


async def test_three_kinds_of_policy_share_a_table_without_touching_each_other() -> None:
    async with FakeAPI() as api:
        await api.put(KNP, "default/same", policy("same"))
        await api.put(CNP, "default/same", policy("same", {"endpointSelector": {}, "ingress": [{}]}))
        async with running(api) as (tables, _):
            await tables.policies.wait_initialized()
            keys = {"NetworkPolicy/default/same", "CiliumNetworkPolicy/default/same"}
            assert set(tables.policies.snapshot().keys()) == keys
            await api.stop()
            await api.remove(KNP, "default/same")
            api.compact()
            await api.start()
            await until(
                tables.policies,
                lambda: set(tables.policies.snapshot().keys()) == {"CiliumNetworkPolicy/default/same"},
            )


async def test_an_invalid_policy_keeps_the_rules_it_had() -> None:
    async with FakeAPI() as api:
        await api.put(CNP, "default/p", policy("p", {"endpointSelector": {}, "ingress": [{}]}))
        async with running(api, resources={Resource.CILIUM_NETWORK_POLICIES}) as (tables, _):
            await tables.policies.wait_initialized()
            (valid,) = tables.policies.snapshot()
            assert valid.rules
            assert not valid.error
            await api.put(CNP, "default/p", policy("p", {"endpointSelector": 5}))
            await until(tables.policies, lambda: bool(next(iter(tables.policies.snapshot())).error))
            assert next(iter(tables.policies.snapshot())).rules == valid.rules


async def test_an_answer_that_is_nested_too_deeply_is_a_failure_like_any_other() -> None:
    async with FakeAPI() as api:
        await api.put(NAMESPACES, "a", {"metadata": {"name": "a"}})
        deep = b'{"metadata":{},"items":[{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}"
        api.refuse[f"GET {NAMESPACES}"] = (200, {"body": deep, "content_type": "application/json"})
        async with running(api, resources={Resource.NAMESPACES}) as (tables, source):
            await tables.namespaces.wait_initialized()
            assert len(tables.namespaces) == 1
            assert source.health()[0].failures == 1
