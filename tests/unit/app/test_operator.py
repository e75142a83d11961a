"""The operator as a whole, against an API server: definitions, CIDRs, collection, and who does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from unit.sources.kubernetes.fake_api import FakeAPI, eventually

from cilium.app.operator import pools_of, run
from cilium.settings import from_flags, from_values

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
CILIUM = "/apis/cilium.io/v2"
NODES, ENDPOINTS = f"{CILIUM}/ciliumnodes", f"{CILIUM}/namespaces/shop/ciliumendpoints"


@asynccontextmanager
async def operator(*flags: str) -> AsyncIterator[FakeAPI]:
    """Until the block ends; without listening anywhere."""
    async with FakeAPI() as api:
        api.objects |= {LEASES: {}, CRDS: {}, NODES: {}}
        arguments = [f"--k8s-api-server={api.url}", "--operator-api-serve-addr=", *flags]
        task = asyncio.create_task(run(from_flags(arguments, environ={})))
        try:
            async with asyncio.timeout(20):
                yield api
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()


def found(api: FakeAPI, collection: str, name: str) -> Callable[[], Any]:
    return lambda: api.objects[collection].get(name)


async def test_the_leader_writes_definitions_and_gives_nodes_their_cidrs() -> None:
    async with operator() as api:
        await eventually(found(api, CRDS, "ciliumnodes.cilium.io"))
        await api.put(NODES, "n1", {"metadata": {"name": "n1"}, "spec": {}})
        await eventually(lambda: api.objects[NODES]["n1"].get("spec", {}).get("ipam"))
        assert api.objects[NODES]["n1"]["spec"]["ipam"]["podCIDRs"] == ["10.0.0.0/24", "fd00::/120"]
        assert api.objects[LEASES]["cilium-operator-resource-lock"]["spec"]["holderIdentity"]


async def test_with_cidrs_of_kubernetes_nodes_are_left_alone() -> None:
    async with operator("--ipam=kubernetes") as api:
        await eventually(found(api, CRDS, "ciliumnodes.cilium.io"))
        await api.put(NODES, "n1", {"metadata": {"name": "n1"}, "spec": {}})
        await eventually(lambda: any(query.get("watch") for _, path, query in api.requests if path == NODES))
        assert api.objects[NODES]["n1"]["spec"] == {}


async def test_who_waits_for_the_lease_does_nothing() -> None:
    async with FakeAPI() as api:
        spec = {"holderIdentity": "another", "renewTime": "now", "leaseDurationSeconds": 15}
        api.objects |= {CRDS: {}}
        await api.put(LEASES, "cilium-operator-resource-lock", {"spec": spec})
        arguments = [
            f"--k8s-api-server={api.url}",
            "--operator-api-serve-addr=",
            "--leader-election-retry-period=100ms",
        ]
        task = asyncio.create_task(run(from_flags(arguments, environ={})))
        async with asyncio.timeout(20):
            await eventually(lambda: len(api.requests) >= 3)
        task.cancel()
        await asyncio.wait({task})
        assert {path for _, path, _ in api.requests} == {f"{LEASES}/cilium-operator-resource-lock"}
        assert api.objects[CRDS] == {}


@pytest.mark.parametrize(
    ("values", "versions"),
    [({}, [4, 6]), ({"ipv4": {"enabled": False}}, [6]), ({"ipv6": {"enabled": False}}, [4])],
)
def test_pools_of_the_families_in_use(values: dict[str, Any], versions: list[int]) -> None:
    assert [pool.version for pool in pools_of(from_values(values))] == versions
