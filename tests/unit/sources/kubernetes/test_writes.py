"""Writing beyond a single request: ensure, delete with a precondition, lists of many pages."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from unit.sources.kubernetes.fake_api import FakeAPI

from cilium.sources.kubernetes.client import Client
from cilium.sources.kubernetes.config import ClientConfig
from cilium.sources.kubernetes.errors import ApiError
from cilium.sources.kubernetes.writes import Writes

NODES = "/apis/cilium.io/v2/ciliumnodes"


@pytest.fixture
async def api() -> AsyncIterator[FakeAPI]:
    async with FakeAPI() as server:
        yield server


@pytest.fixture
async def writes(api: FakeAPI) -> AsyncIterator[Writes]:
    async with Client(ClientConfig(server=api.url)) as client:
        yield Writes(client)


async def test_ensure_creates_and_then_patches(api: FakeAPI, writes: Writes) -> None:
    await writes.ensure(NODES, "n1", {"metadata": {"name": "n1"}, "spec": {"bootid": "1"}})
    await writes.ensure(NODES, "n1", {"metadata": {"name": "n1"}, "spec": {"bootid": "2"}})
    methods = [(method, path.removeprefix(NODES)) for method, path, _ in api.requests]
    assert methods == [("PATCH", "/n1"), ("POST", ""), ("PATCH", "/n1")]
    assert api.objects[NODES]["n1"]["spec"] == {"bootid": "2"}


async def test_an_object_that_appears_meanwhile_is_patched(api: FakeAPI, writes: Writes) -> None:
    await api.put(NODES, "n1", {"metadata": {"name": "n1"}})
    gone = {"text": '{"reason": "NotFound", "code": 404}'}
    api.refuse[f"PATCH {NODES}/n1"] = (404, gone)  # as if it had come between our two requests
    await writes.ensure(NODES, "n1", {"metadata": {"name": "n1"}, "spec": {"bootid": "3"}})
    assert api.objects[NODES]["n1"]["spec"] == {"bootid": "3"}


async def test_a_delete_can_spare_a_namesake(api: FakeAPI, writes: Writes) -> None:
    await api.put(NODES, "n1", {"metadata": {"name": "n1", "uid": "u"}})
    with pytest.raises(ApiError) as caught:
        await writes.delete(NODES, "n1", uid="another")
    assert caught.value.status == 409
    assert await writes.delete(NODES, "n1", uid="u")
    assert api.bodies[-1][1]["preconditions"] == {"uid": "u"}


async def test_a_list_is_followed_to_its_last_page(api: FakeAPI, writes: Writes) -> None:
    for i in range(1001):
        await api.put(NODES, f"n{i}", {"metadata": {"name": f"n{i}"}})
    assert len(await writes.list(NODES)) == 1001
    assert len(api.requests) == 3
