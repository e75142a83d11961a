"""Who waits for an endpoint is told when it is served, or what it lacks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from cilium.features.endpoint.readiness import Readiness
from cilium.features.endpoint.rows import EndpointMapEntry
from cilium.state import Kind, RowStatus, Table
from cilium.tables.endpoints import Endpoint
from cilium.tables.types import EndpointId, Identity

V4, V6 = ip_address("10.0.0.7"), ip_address("fd00::7")
WEB = Endpoint(EndpointId(7), "pod", (V4, V6), ifname="lxc7")


class World:
    def __init__(self) -> None:
        entries: Table[Any, EndpointMapEntry] = Table("endpoint-map", key=lambda row: row.address)
        status: Table[Any, RowStatus[Any]] = Table("endpoint-map-status", key=lambda row: row.key)
        attachments: Table[Any, RowStatus[Any]] = Table("attachments-status", key=lambda row: row.key)
        self.readiness = Readiness(entries=entries, status=status, attachments=attachments)
        self._entries, self._status = entries.writer("test"), status.writer("test")
        self._attachments = attachments.writer("test")

    def attach(self, kind: Kind = Kind.DONE, error: str = "") -> None:
        self._attachments.commit([RowStatus(("lxc7", hook), kind, 1, error) for hook in ("ingress", "egress")])

    def enter(self, *, not_ready: bool = False) -> None:
        self._entries.commit([EndpointMapEntry(address, 7, Identity(9), not_ready=not_ready) for address in (V4, V6)])

    def write(self, kind: Kind = Kind.DONE, error: str = "", addresses: tuple[Any, ...] = (V4, V6)) -> None:
        self._status.commit([RowStatus(address, kind, 1, error) for address in addresses])


@pytest.fixture
async def world() -> World:
    return World()


Step = Callable[[World], None]
ATTACHED: Step = World.attach
ENTERED: Step = World.enter
IN_MAP = "10.0.0.7 is not in the datapath yet"


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], "no program at lxc7 ingress"),
        ([lambda world: world.attach(Kind.ERROR, "no such device")], "no program at lxc7 ingress: no such device"),
        ([ATTACHED], "10.0.0.7 is not in the endpoint map yet"),
        ([ATTACHED, lambda world: world.enter(not_ready=True)], "no policy was computed for it"),
        ([ATTACHED, ENTERED], IN_MAP),
        ([ATTACHED, ENTERED, lambda world: world.write(Kind.ERROR, "map full")], f"{IN_MAP}: map full"),
        ([ATTACHED, ENTERED, lambda world: world.write(Kind.PENDING)], IN_MAP),
        ([ATTACHED, ENTERED, lambda world: world.write(addresses=(V4,))], "fd00::7 is not in the datapath yet"),
        ([ATTACHED, ENTERED, World.write], ""),
    ],
)
async def test_what_an_endpoint_lacks(world: World, steps: list[Step], expected: str) -> None:
    for step in steps:
        step(world)
    lacks = world.readiness.lacks(WEB)
    assert lacks.startswith(expected)
    assert bool(lacks) is bool(expected)


async def test_those_who_wait_are_woken_together(world: World) -> None:
    task = asyncio.create_task(world.readiness.run())
    waiting = [asyncio.create_task(world.readiness.wait(WEB, 5)) for _ in range(2)]
    try:
        await asyncio.sleep(0)
        world.attach()
        world.enter()
        await asyncio.sleep(0)
        assert not any(waiter.done() for waiter in waiting)
        world.write()
        await asyncio.gather(*waiting)
    finally:
        for one in (task, *waiting):
            one.cancel()


async def test_patience_ends_with_the_reason(world: World) -> None:
    world.attach()
    with pytest.raises(TimeoutError, match=r"10\.0\.0\.7 is not in the endpoint map yet"):
        await world.readiness.wait(WEB, 0.01)
