"""A container that is stopped in the moment in which it starts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubelab.kubelet.containers import Container
from kubelab.kubelet.inotify import Inotify
from kubelab.kubelet.runtime.contract import Exit


class Process:
    """Ends when it is told to, and remembers with how much grace."""

    id, image_id, notices = "fake://1", "", ()

    def __init__(self) -> None:
        self.graces: list[float] = []
        self._ended = asyncio.Event()

    async def wait(self) -> Exit:
        await self._ended.wait()
        return Exit(143)

    async def stop(self, grace: float) -> None:
        self.graces.append(grace)
        self._ended.set()

    def record(self) -> dict[str, Any]:
        return {}

    def release(self) -> None: ...


class Host:
    """Of a pod; a start takes until `go` is set."""

    ip, label, grace, log_format = "", "p_n(u)", 30.0, "plain"

    def __init__(self) -> None:
        self.process = Process()
        self.starting, self.go = asyncio.Event(), asyncio.Event()

    async def start(self, container: dict[str, Any], attempt: int) -> Process:
        self.starting.set()
        await self.go.wait()
        return self.process

    async def adopt(self, record: dict[str, Any]) -> None: ...
    def changed(self) -> None: ...
    def event(self, *_: str) -> None: ...


@pytest.fixture
async def inotify() -> AsyncIterator[Inotify]:
    made = Inotify()
    yield made
    made.close()


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def container(host: Host, inotify: Inotify, tmp_path: Path) -> Container:
    return Container({"name": "c"}, host, tmp_path / "c", inotify, policy="Always")  # type: ignore[arg-type]  # a fake


async def test_what_starts_while_it_is_stopped_ends_with_its_grace(host: Host, container: Container) -> None:
    """Otherwise a pod waits for ever for a sidecar that was just restarting when all others had ended."""
    async with asyncio.timeout(5):
        life = asyncio.create_task(container.run())
        await host.starting.wait()
        await container.stop(7.0)
        host.go.set()
        assert await life == 143
    assert host.process.graces == [7.0]
    assert container.state.kind == "terminated"


async def test_what_nobody_waits_for_any_more_is_stopped_and_its_end_known(host: Host, container: Container) -> None:
    host.go.set()
    life = asyncio.create_task(container.run())
    async with asyncio.timeout(5):
        while not container.running:  # noqa: ASYNC110 - a few steps of the loop
            await asyncio.sleep(0)
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        begun = time.monotonic()
        await container.stop(0.0)
    assert time.monotonic() - begun < 1, "there is nothing to wait for"
    assert (container.state.kind, container.state.exit_code) == ("terminated", 143)
