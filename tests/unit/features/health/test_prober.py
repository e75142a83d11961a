"""The prober against answers of every kind, and against the responder itself over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address
from typing import Any

import pytest

from cilium.features.health.prober import HttpAsk, Prober
from cilium.features.health.responder import Responder, listen, response
from cilium.features.health.rows import HealthTarget, NodeHealth
from cilium.state import Table
from cilium.tables.types import IPAddress


class World:
    def __init__(self) -> None:
        self.targets: Table[Any, HealthTarget] = Table("health-targets", key=lambda row: row.key)
        self.writer = self.targets.writer("test")
        self.health: Table[Any, NodeHealth] = Table("node-health", key=lambda row: row.key)
        self.broken: dict[str, OSError] = {}
        self.asked: list[str] = []
        self.started = asyncio.Event()
        self.prober = Prober(
            targets=self.targets, writer=self.health.writer("test"), ask=self._ask, spread=lambda: 0.0
        )  # fmt: skip

    async def _ask(self, address: IPAddress) -> None:
        self.asked.append(str(address))
        self.started.set()
        await asyncio.sleep(0)
        if error := self.broken.get(str(address)):
            raise error

    def add(self, node: str, address: str) -> None:
        self.writer.upsert(HealthTarget(node, ip_address(address), "host"))

    async def round(self) -> dict[str, NodeHealth]:
        self.prober.follow()
        await self.prober.round()
        return {str(row.address): row for row in self.health.snapshot()}


async def test_answers_and_failures_become_rows() -> None:
    world = World()
    world.broken["192.0.2.2"] = ConnectionRefusedError(111, "Connection refused")
    world.add("a", "192.0.2.1")
    world.add("b", "192.0.2.2")
    rows = await world.round()
    assert (rows["192.0.2.1"].ok, rows["192.0.2.1"].error) == (True, "")
    assert (rows["192.0.2.2"].ok, rows["192.0.2.2"].error) == (False, "Connection refused")
    assert rows["192.0.2.2"].failures == 1
    assert rows["192.0.2.1"].last


async def test_nobody_is_asked_again_before_time() -> None:
    world = World()
    world.add("a", "192.0.2.1")
    await world.round()
    await world.round()
    assert world.asked == ["192.0.2.1"]
    world.add("b", "2001:db8::2")
    await world.round()
    assert world.asked == ["192.0.2.1", "2001:db8::2"], "a new target is asked at once"


async def test_a_node_that_went_leaves_nothing() -> None:
    world = World()
    world.add("a", "192.0.2.1")
    await world.round()
    world.writer.delete(("a", "192.0.2.1"))
    assert await world.round() == {}


async def test_an_answer_for_a_node_that_went_meanwhile_is_dropped() -> None:
    world = World()
    world.add("a", "192.0.2.1")
    world.prober.follow()
    question = asyncio.create_task(world.prober.round())
    await world.started.wait()
    world.writer.delete(("a", "192.0.2.1"))
    await question
    assert await world.round() == {}


async def test_the_task_asks_what_comes_and_goes_on() -> None:
    world = World()
    changes = world.health.changes()
    task = asyncio.create_task(world.prober.run())
    try:
        for address in ("192.0.2.1", "192.0.2.2"):
            world.add("a", address)
            async with asyncio.timeout(5):
                while ("a", address) not in world.health.snapshot():
                    await changes.wait()
                    changes.pop()
    finally:
        task.cancel()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[str], Any]]:
    responder = Responder()

    async def start(address: str) -> int:
        listening = listen(address, 0, version=ip_address(address).version)
        port: int = listening.getsockname()[1]
        await responder.serve([listening])
        return port

    yield start
    responder.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_the_responder_answers_the_prober(serve: Callable[[str], Any], address: str) -> None:
    port = await serve(address)
    await HttpAsk(port=port)(ip_address(address))


async def test_a_closed_port_a_wrong_answer_and_silence_are_errors(serve: Callable[[str], Any]) -> None:
    closed = listen("127.0.0.1", 0, version=4)
    port = closed.getsockname()[1]
    loopback = ip_address("127.0.0.1")
    with pytest.raises(TimeoutError, match="no answer within"):
        await HttpAsk(port=port, patience=0.05)(loopback)  # in the backlog: connected, never answered
    closed.close()
    with pytest.raises(OSError, match=r"refused|failed"):
        await HttpAsk(port=port)(loopback)

    async def wrong(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Busy\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(wrong, "127.0.0.1", 0)
    async with server:
        with pytest.raises(OSError, match="503 Busy"):
            await HttpAsk(port=server.sockets[0].getsockname()[1])(loopback)


async def test_a_port_in_use_names_the_setting(serve: Callable[[str], Any]) -> None:
    port = await serve("127.0.0.1")
    with pytest.raises(OSError, match=f"127.0.0.1]:{port}.*cluster-health-port"):
        listen("127.0.0.1", port, version=4)


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", b"200", b"hello\n"),
        (b"HEAD /hello HTTP/1.1\r\n\r\n", b"200", b""),
        (b"GET /hello?x=1 HTTP/1.0\r\n\r\n", b"200", b"hello\n"),
        (b"GET / HTTP/1.1\r\n\r\n", b"404", b""),
        (b"POST /hello HTTP/1.1\r\n\r\n", b"405", b""),
        (b"\x16\x03\x01\r\n\r\n", b"400", b""),
    ],
)
def test_requests_and_answers(request_: bytes, status: bytes, body: bytes) -> None:
    head, _, rest = response(request_).partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == status
    assert rest == body
