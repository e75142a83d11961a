"""Deleting an endpoint's object without hitting that of the pod's next life; telling an Event once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from unit.sources.kubernetes.fake_api import FakeAPI

from cilium.app.objects import ObjectWrites
from cilium.sources.kubernetes.client import Client
from cilium.sources.kubernetes.config import ClientConfig
from cilium.sources.kubernetes.errors import ApiError
from cilium.sources.kubernetes.writes import Writes
from cilium.tables.rules import NodeReport

WEB = "/apis/cilium.io/v2/namespaces/shop/ciliumendpoints"


@pytest.fixture
async def api() -> AsyncIterator[FakeAPI]:
    async with FakeAPI() as server:
        yield server


@pytest.fixture
async def objects(api: FakeAPI) -> AsyncIterator[ObjectWrites]:
    async with Client(ClientConfig(server=api.url)) as client:
        yield ObjectWrites(Writes(client))


def endpoint(node: str) -> dict[str, Any]:
    return {"metadata": {"name": "web-0", "uid": "u7"}, "status": {"networking": {"node": node}}}


async def test_a_pod_that_moved_keeps_the_object_of_its_new_node(api: FakeAPI, objects: ObjectWrites) -> None:
    await api.put(WEB, "web-0", endpoint("172.18.0.2"))
    await objects.delete_endpoint("shop", "web-0", node_ip="172.18.0.1")
    assert "web-0" in api.objects[WEB]
    await objects.delete_endpoint("shop", "web-0", node_ip="172.18.0.2")
    assert "web-0" not in api.objects[WEB]
    assert api.bodies[-1][1]["preconditions"] == {"uid": "u7", "resourceVersion": "101"}


@pytest.mark.parametrize("status", [None, {}, {"networking": None}])
async def test_an_object_of_nobody_is_not_ours(api: FakeAPI, objects: ObjectWrites, status: Any) -> None:
    await api.put(WEB, "web-0", {"metadata": {"name": "web-0", "uid": "u7"}, "status": status})
    await objects.delete_endpoint("shop", "web-0", node_ip="172.18.0.1")
    assert "web-0" in api.objects[WEB]


async def test_absence_is_no_error(objects: ObjectWrites) -> None:
    await objects.delete_endpoint("shop", "web-0", node_ip="172.18.0.1")


IDENTITIES = "/apis/cilium.io/v2/ciliumidentities"


@pytest.mark.parametrize("unused", [True, False])
async def test_an_identity_goes_if_it_is_still_unused(api: FakeAPI, objects: ObjectWrites, unused: bool) -> None:
    await api.put(IDENTITIES, "4711", {"metadata": {"uid": "u1"}})
    assert await objects.delete_identity(4711, unused=lambda: unused) is unused
    assert ("4711" in api.objects[IDENTITIES]) is not unused
    assert not await objects.delete_identity(4712, unused=lambda: True), "absence is no error"


@pytest.mark.parametrize("uid", ["u1", "u2"])
async def test_an_identity_that_changed_since_it_was_read_stays(api: FakeAPI, objects: ObjectWrites, uid: str) -> None:
    """Or one of the same name that took its place."""
    await api.put(IDENTITIES, "4711", {"metadata": {"uid": "u1"}})

    def somebody_writes() -> bool:
        api.objects[IDENTITIES]["4711"] = {"metadata": {"name": "4711", "uid": uid, "resourceVersion": "900"}}
        return True

    with pytest.raises(ApiError) as caught:
        await objects.delete_identity(4711, unused=somebody_writes)
    assert caught.value.status == 409
    assert "4711" in api.objects[IDENTITIES]


EVENTS = "/api/v1/namespaces/shop/events"


async def test_an_event_is_told_once(api: FakeAPI, objects: ObjectWrites) -> None:
    body = {"metadata": {"name": "web.1"}, "message": "first"}
    await objects.create_event("shop", body)
    await objects.create_event("shop", {**body, "message": "second"})
    assert api.objects[EVENTS]["web.1"]["message"] == "first"


def refusal(message: str) -> dict[str, Any]:
    body = {"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": message}
    return {"body": json.dumps(body).encode(), "content_type": "application/json"}


async def test_a_namespace_that_goes_needs_no_events(api: FakeAPI, objects: ObjectWrites) -> None:
    """It may take long to go; other refusals are errors."""
    message = "unable to create new content in namespace shop because it is being terminated"
    api.refuse[f"POST {EVENTS}"] = (403, refusal(message))
    await objects.create_event("shop", {"metadata": {"name": "web.1"}})
    assert EVENTS not in api.objects or not api.objects[EVENTS]
    api.refuse[f"POST {EVENTS}"] = (403, refusal("cannot create resource events"))
    with pytest.raises(ApiError, match="cannot create resource"):
        await objects.create_event("shop", {"metadata": {"name": "web.1"}})


async def test_what_a_node_has_said_of_policies(api: FakeAPI, objects: ObjectWrites) -> None:
    said = {"revision": 2, "enforcing": True, "ok": True, "error": "", "lastUpdated": "2026-11-23T00:00:00Z"}
    cnps, ccnps = (f"/apis/cilium.io/v2/cilium{kind}networkpolicies" for kind in ("", "clusterwide"))
    mine = {"metadata": {"name": "a", "namespace": "shop", "uid": "u"}, "status": {"nodes": {"n1": said}}}
    await api.put(cnps, "a", mine)
    await api.put(cnps, "b", {"metadata": {"name": "b", "namespace": "shop", "uid": "v"}})
    await api.put(ccnps, "c", {"metadata": {"name": "c", "uid": "w"}, "status": {"nodes": {"n1": {"ok": "yes"}}}})
    found = await objects.policy_nodes("n1")
    assert found["CiliumNetworkPolicy/shop/a"] == ("u", NodeReport(2, True, True))
    assert found["CiliumClusterwideNetworkPolicy//c"][1].revision == -1  # it is written anew
    assert len(found) == 2
    assert await objects.policy_nodes("n2") == {}
    await objects.patch_policy_status("CiliumNetworkPolicy", "shop", "gone", {"status": {}})  # is no error
