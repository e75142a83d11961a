"""ConfigMaps and Secrets of a node's pods: each followed by its name, for as long as a pod refers to it."""

import asyncio
import base64
import contextlib

import pytest

from kubelab.kubelet.client import WatchEvent
from kubelab.kubelet.references import References, references

POD = {
    "metadata": {"name": "p", "namespace": "n"},
    "spec": {
        "volumes": [{"name": "v", "secret": {"secretName": "s"}}, {"name": "e", "emptyDir": {}}],
        "containers": [
            {
                "envFrom": [{"configMapRef": {"name": "c"}}],
                "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "k", "key": "x"}}}, {"name": "Y"}],
            }
        ],
    },
}


class Client:
    """Plays one watch per path and selector: tests put events into `feeds`."""

    def __init__(self):
        self.feeds = {}
        self.ended = asyncio.Queue()

    async def list_and_watch(self, path, **query):
        key = (path, query["fieldSelector"])
        feed = self.feeds.setdefault(key, asyncio.Queue())
        try:
            while True:
                yield await feed.get()
        finally:
            self.ended.put_nowait(key)

    def feed(self, kind, name):
        return self.feeds.setdefault((f"/api/v1/namespaces/n/{kind}", f"metadata.name={name}"), asyncio.Queue())


def secret(version, **data):
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"metadata": {"name": "s", "namespace": "n", "resourceVersion": str(version)}, "data": encoded}


@pytest.fixture
async def followed():
    client, changes = Client(), asyncio.Queue()

    async def changed(*reference):
        changes.put_nowait(reference)

    made = References(client, changed)
    task = asyncio.create_task(made.run())
    await asyncio.sleep(0)
    yield made, client, changes
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_what_a_pod_refers_to():
    assert set(references(POD)) == {
        ("configmaps", "n", "kube-root-ca.crt"),
        ("configmaps", "n", "c"),
        ("secrets", "n", "s"),
        ("secrets", "n", "k"),
    }


async def test_data_comes_from_one_watch_and_changes_are_told_once(followed):
    made, client, changes = followed
    waiting = asyncio.gather(made.fetch("secrets", "n", "s"), made.fetch("secrets", "n", "s"))
    feed = client.feed("secrets", "s")
    feed.put_nowait(WatchEvent("replace", [secret(1, a="x")]))
    assert await waiting == [{"a": b"x"}, {"a": b"x"}]
    feed.put_nowait(WatchEvent("upsert", [secret(2, a="y")]))
    assert await changes.get() == ("secrets", "n", "s")
    assert await made.fetch("secrets", "n", "s") == {"a": b"y"}
    # Listed anew after the history was lost: news only if it is another version.
    feed.put_nowait(WatchEvent("replace", [secret(2, a="y")]))
    feed.put_nowait(WatchEvent("replace", [secret(3, a="z")]))
    assert await changes.get() == ("secrets", "n", "s")
    assert await made.fetch("secrets", "n", "s") == {"a": b"z"}
    assert changes.empty()
    feed.put_nowait(WatchEvent("delete", [secret(4)]))
    feed.put_nowait(WatchEvent("upsert", [secret(5, a="again")]))
    assert await changes.get() == ("secrets", "n", "s")
    assert changes.empty()


async def test_what_is_missing_is_none_until_it_comes(followed):
    made, client, changes = followed
    waiting = asyncio.create_task(made.fetch("configmaps", "n", "c"))
    client.feed("configmaps", "c").put_nowait(WatchEvent("replace", []))
    assert await waiting is None
    found = {"metadata": {"name": "c", "namespace": "n", "resourceVersion": "2"}, "data": {"k": "v"}}
    client.feed("configmaps", "c").put_nowait(WatchEvent("upsert", [found]))
    assert await changes.get() == ("configmaps", "n", "c")
    assert await made.fetch("configmaps", "n", "c") == {"k": b"v"}


async def test_a_watch_ends_with_the_last_pod_that_refers_to_it(followed):
    made, client, _ = followed
    for kind, name in (("secrets", "s"), ("configmaps", "other")):
        waiting = asyncio.create_task(made.fetch(kind, "n", name))
        client.feed(kind, name).put_nowait(WatchEvent("replace", []))
        await waiting
    made.keep([POD])
    assert await client.ended.get() == ("/api/v1/namespaces/n/configmaps", "metadata.name=other")
    assert client.ended.empty()
