"""The project's own objects and the operator's Lease, as the API sees them written."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from unit.sources.kubernetes.fake_api import FakeAPI

from cilium.sources.kubernetes.client import Client
from cilium.sources.kubernetes.config import ClientConfig
from cilium.sources.kubernetes.errors import ApiError
from cilium.sources.kubernetes.objects import ENDPOINTS, IDENTITIES, NODES, CiliumObjects, Lease
from cilium.sources.kubernetes.writes import Writes


@pytest.fixture
async def api() -> AsyncIterator[FakeAPI]:
    async with FakeAPI() as server:
        yield server


@pytest.fixture
async def writes(api: FakeAPI) -> AsyncIterator[Writes]:
    async with Client(ClientConfig(server=api.url)) as client:
        yield Writes(client)


async def test_a_node_is_created_and_then_patched(api: FakeAPI, writes: Writes) -> None:
    objects = CiliumObjects(writes)
    await objects.apply_node("n1", {"metadata": {"name": "n1"}, "spec": {"bootid": "1"}})
    await objects.apply_node("n1", {"metadata": {"name": "n1"}, "spec": {"bootid": "2"}})
    await objects.patch_node("n1", {"spec": {"ipam": {"podCIDRs": ["10.0.0.0/24"]}}})
    await objects.patch_node_status("n1", {"status": {"ipam": {}}})
    methods = [(method, path.removeprefix(NODES)) for method, path, _ in api.requests]
    assert methods == [
        ("PATCH", "/n1"),
        ("POST", ""),
        ("PATCH", "/n1"),
        ("PATCH", "/n1"),
        ("PATCH", "/n1/status"),
    ]
    assert await objects.delete_node("n1")
    assert not await objects.delete_node("n1")


async def test_an_object_that_appears_meanwhile_is_patched(api: FakeAPI, writes: Writes) -> None:
    await api.put(NODES, "n1", {"metadata": {"name": "n1"}})
    gone = {"text": '{"reason": "NotFound", "code": 404}'}
    api.refuse[f"PATCH {NODES}/n1"] = (404, gone)  # as if it had come between our two requests
    await CiliumObjects(writes).apply_node("n1", {"metadata": {"name": "n1"}, "spec": {"bootid": "3"}})
    assert api.objects[NODES]["n1"]["spec"] == {"bootid": "3"}


async def test_endpoints(api: FakeAPI, writes: Writes) -> None:
    objects = CiliumObjects(writes)
    in_default = "/apis/cilium.io/v2/namespaces/default/ciliumendpoints"
    await objects.apply_endpoint("default", "p", {"metadata": {"name": "p", "namespace": "default"}})
    assert "p" in api.objects[in_default]
    await objects.delete_endpoint("default", "p")
    await objects.delete_endpoint("default", "p")
    body = {"metadata": {"namespace": "default", "name": "p"}, "status": {"networking": {"node": "192.168.0.1"}}}
    await api.put(ENDPOINTS, "p", body)
    await api.put(ENDPOINTS, "q", {"metadata": {"namespace": "x", "name": "q"}, "status": None})
    assert await objects.list_endpoints() == [("default", "p", "192.168.0.1"), ("x", "q", "")]


async def test_a_taken_identity_is_a_409(writes: Writes) -> None:
    objects = CiliumObjects(writes)
    body = {"metadata": {"name": "256"}, "security-labels": {"k8s:app": "web"}}
    await objects.create(IDENTITIES, body)
    with pytest.raises(ApiError) as caught:
        await objects.create(IDENTITIES, body)
    assert caught.value.status == 409
    assert await objects.delete_identity("256")


async def test_a_lease_is_created_replaced_and_lost(api: FakeAPI, writes: Writes) -> None:
    api.objects["/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"] = {}
    lease = Lease(writes, namespace="kube-system", name="cilium-operator")
    assert await lease.read() is None
    assert await lease.write(None, {"holderIdentity": "a"})
    assert not await lease.write(None, {"holderIdentity": "b"})
    current = await lease.read()
    assert current is not None
    assert current["spec"] == {"holderIdentity": "a"}
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/cilium-operator"
    api.refuse[f"PUT {path}"] = (409, {"text": '{"reason": "Conflict"}'})
    assert not await lease.write(current, {"holderIdentity": "b"})
    assert await lease.write(current, {"holderIdentity": "c"})
    renewed = await lease.read()
    assert renewed is not None
    assert renewed["spec"] == {"holderIdentity": "c"}
    assert api.bodies[-1][1]["metadata"]["resourceVersion"]
