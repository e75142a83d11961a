"""Volumes from the API over a restart of the kubelet."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from unit.kubelab.kubelet.test_environment import CONFIG

from kubelab.kubelet.volumes import Sources, Volumes

MOUNT = {"name": "map", "mountPath": "/m"}
POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u"},
    "spec": {
        "automountServiceAccountToken": False,
        "volumes": [{"name": "map", "configMap": {"name": "there"}}],
        "containers": [{"name": "c", "volumeMounts": [MOUNT]}],
    },
}


class Api:
    """Has one ConfigMap, or is away and lets everybody wait."""

    def __init__(self, value: bytes) -> None:
        self.value, self.there = value, asyncio.Event()

    async def fetch(self, kind: str, namespace: str, name: str) -> dict[str, bytes] | None:
        await self.there.wait()
        return {"key": self.value}

    async def nothing(self, *_: object) -> Any:
        raise AssertionError("nobody asks for it")

    def volumes(self, directory: Path) -> Volumes:
        return Volumes(POD, directory, Sources(self.fetch, self.nothing, CONFIG, self.nothing, self.nothing))


async def test_what_was_written_does_until_the_api_answers(tmp_path: Path) -> None:
    first = Api(b"old")
    first.there.set()
    await first.volumes(tmp_path).prepare([])
    api = Api(b"new")
    volumes = api.volumes(tmp_path)
    await asyncio.wait_for(volumes.prepare([], keep=True), 5)
    (mount,) = volumes.mounts(POD["spec"]["containers"][0], {})
    assert (mount.target, mount.readonly, (Path(mount.source) / "key").read_bytes()) == ("/m", True, b"old")
    refresh = asyncio.create_task(volumes.refresh(POD, []))
    api.there.set()
    await asyncio.wait_for(refresh, 5)
    assert (Path(mount.source) / "key").read_bytes() == b"new"


@pytest.mark.parametrize("keep", [False, True])
async def test_what_was_never_written_waits_for_the_api(tmp_path: Path, keep: bool) -> None:
    api = Api(b"new")
    waiting = asyncio.create_task(api.volumes(tmp_path).prepare([], keep=keep))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    api.there.set()
    await asyncio.wait_for(waiting, 5)
    assert (tmp_path / "map/key").read_bytes() == b"new"
