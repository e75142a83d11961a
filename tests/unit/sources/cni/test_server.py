"""The plugin's socket: what clients may do to it without disturbing others."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cilium.protocols import cni
from cilium.protocols.cni import CNIError, ErrorCode, Request, Result
from cilium.sources.cni import server as module
from cilium.sources.cni.server import CNIServer

DELETE = cni.encode_request(
    {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0"}, b'{"cniVersion":"1.0.0"}'
)
ADD = cni.encode_request(
    {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": "/x"}, b'{"cniVersion":"1.0.0"}'
)
STDIN = 0
"""Any descriptor serves as a network namespace here."""


class Handler:
    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.fails: Exception | None = None

    async def add(self, request: Request, netns_fd: int) -> Result:
        return Result(interfaces=[], ips=[], routes=[])

    async def delete(self, request: Request) -> None:
        if self.fails:
            raise self.fails
        self.deleted.append(request.container_id)

    async def check(self, request: Request, netns_fd: int) -> None: ...
    async def collect(self, request: Request) -> None: ...
    async def status(self, request: Request) -> None: ...


class World:
    def __init__(self, path: Path) -> None:
        self.socket, self.queue, self.handler = path / "cni.sock", path / "deleteQueue", Handler()
        self.server = CNIServer(path=self.socket, delete_queue=self.queue, handler=self.handler)

    async def ask(self, data: bytes, *, fd: int | None = None, close: bool = False) -> bytes:
        """What comes back until the server hangs up."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.setblocking(False)
            await loop.sock_connect(client, str(self.socket))
            if fd is not None:
                sent = socket.send_fds(client, [data], [fd])
                data = data[sent:]
            await loop.sock_sendall(client, data)
            if close:
                return b""
            answer = b""
            while part := await loop.sock_recv(client, 65536):
                answer += part
            return answer


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made, ready = World(tmp_path), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(made.server.run(tasks, listening=ready.set))
        async with asyncio.timeout(10):
            await ready.wait()
            yield made
        serving.cancel()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_only_its_owner_may_ask(world: World) -> None:
    assert world.socket.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "data",
    [
        cni.frame(b"\xff" * 100),
        cni.frame(b"\0"),
        cni.frame(b"CNI_COMMAND=DEL\0\0{}"),
        cni.frame(b"CNI_COMMAND=ADD\0CNI_CONTAINERID=c\0CNI_IFNAME=eth0\0CNI_NETNS=/x\0\0" + b"[" * 100_000),
        cni.frame(b"CNI_COMMAND=GC\0\0null"),
        cni.frame(b"CNI_COMMAND=GC\0\0" + b'{"cniVersion":1}'),
    ],
)
async def test_nonsense_is_answered_with_an_error_and_the_next_is_served(world: World, data: bytes) -> None:
    answer = await world.ask(data)
    assert answer[0] == 1
    assert b'"code"' in answer
    assert await world.ask(DELETE) == cni.frame_response(0, b"")


async def test_a_huge_request_is_cut_off(world: World) -> None:
    assert await world.ask(cni.HEADER.pack(0xFFFFFFFF) + b"x" * 100) == b""
    assert await world.ask(DELETE) == cni.frame_response(0, b"")


async def test_clients_that_vanish_leave_no_descriptor(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    await world.ask(DELETE)
    before = descriptors()
    for data in (ADD, ADD[:3], ADD[:-5]):
        await world.ask(data, fd=STDIN, close=True)
    assert await world.ask(ADD[:-5], fd=STDIN) == b""  # says nothing more, and does not hang up
    assert await world.ask(DELETE) == cni.frame_response(0, b"")
    assert descriptors() == before


async def test_an_add_without_a_namespace(world: World) -> None:
    answer = await world.ask(ADD)
    assert answer[0] == 1
    assert b"came without an open network namespace" in answer


@pytest.mark.parametrize(
    ("failure", "kept"),
    [(None, False), (CNIError(ErrorCode.IO_FAILURE, "no"), False), (OSError("netlink: busy"), True)],
)
async def test_queued_deletes(tmp_path: Path, failure: Exception | None, kept: bool) -> None:
    """One that fails for a reason of this machine is kept for the next start; none keeps the agent from starting."""
    world = World(tmp_path)
    world.handler.fails = failure
    world.queue.mkdir()
    (world.queue / "a.delete").write_bytes(b"\xff\x00nonsense")
    (world.queue / "b.delete").write_bytes(DELETE)
    (world.queue / "c.delete").mkdir()
    await world.server.replay_deletes()
    assert not (world.queue / "a.delete").exists()
    assert (world.queue / "b.delete").exists() is kept
    assert world.handler.deleted == ([] if failure else ["c1"])
