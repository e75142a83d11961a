"""When sockets are ended, where they are looked for, and what the kernel may refuse."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Set
from ipaddress import ip_address

import numpy as np
import pytest

from cilium.datapath.addresses import address_bytes, addresses_array
from cilium.datapath.errors import KernelError
from cilium.datapath.fakes.maps import FakeMap
from cilium.datapath.generated import REVERSE_ENTRY, REVERSE_KEY
from cilium.datapath.netlink.connections import Peer
from cilium.datapath.netlink.netns import NamespaceError
from cilium.datapath.netlink.port import NetlinkError
from cilium.features.services.termination import Termination
from cilium.state import Table
from cilium.tables.endpoints import Endpoint
from cilium.tables.services import Backend, EndpointSlice, Frontend, FrontendKey
from cilium.tables.types import EndpointId

VIP, OLD, NEW = "10.96.0.1", "10.0.0.1", "10.0.0.2"
NAMESPACES = ("/netns/a", "/netns/b", "/netns/c")


class World:
    def __init__(self) -> None:
        self.frontends: Table[FrontendKey, Frontend] = Table("frontends", key=lambda row: row.key)
        self.slices: Table[str, EndpointSlice] = Table("endpoint-slices", key=lambda row: row.key)
        self.endpoints: Table[EndpointId, Endpoint] = Table("endpoints", key=lambda row: row.id)
        self.writer = self.frontends.writer("test")
        self.others = self.slices.writer("test"), self.endpoints.writer("test")
        for number, netns in enumerate((*NAMESPACES, ""), 1):
            self.others[1].upsert(Endpoint(EndpointId(number), "pod", (), netns=netns, netns_cookie=number))
        self.reverse = FakeMap("cilium_lb_reverse")
        self.there: dict[str, set[int]] = {}
        """Sockets by namespace."""
        self.faults: dict[str, Exception] = {}
        self.events: list[object] = []
        self.protocol = 17
        """Whose sockets are to be ended."""
        self.termination = Termination(
            frontends=self.frontends,
            slices=self.slices,
            endpoints=self.endpoints,
            reverse=self.reverse,
            settled=self.settled,
            destroy=self.destroy,
            pause=0,
        )

    def ready(self) -> None:
        for writer in (self.writer, *self.others):
            writer.ready()

    def put(self, *ends: str, protocol: str = "UDP", port: int = 53) -> None:
        backends = tuple(Backend(ip_address(end), 5353) for end in ends)
        self.writer.upsert(Frontend(ip_address(VIP), port, protocol, "shop/dns", "dns", "ClusterIP", backends))

    def talk(self, cookie: int, backend: str, netns: str = "/netns/a") -> None:
        """A socket that means the service and talks to a backend."""
        key, value = np.zeros(1, REVERSE_KEY), np.zeros(1, REVERSE_ENTRY)
        key["cookie"], key["address"], key["port"] = cookie, addresses_array([ip_address(backend)]), 5353
        value["address"], value["port"] = addresses_array([ip_address(VIP)]), 53
        value["netns_cookie"] = (NAMESPACES.index(netns) + 1) if netns else 99
        self.reverse.update(key, value)
        self.there.setdefault(netns, set()).add(cookie)

    def destroy(self, netns: str, wanted: Set[tuple[int, Peer]]) -> set[int]:
        self.events.append(netns)
        if netns in self.faults:
            raise self.faults[netns]
        assert {peer for _, peer in wanted} == {Peer(self.protocol, address_bytes(ip_address(OLD)), 5353)}
        return {cookie for cookie, _ in wanted} & self.there.get(netns, set())

    async def settled(self, revision: int) -> None:
        self.events.append(revision)

    def cookies(self) -> list[int]:
        return sorted(self.reverse.dump()[0]["cookie"].tolist())

    async def leave(self) -> None:
        """The old backend goes, while a socket talks to it."""
        self.put(OLD, NEW)
        await self.termination.follow()
        self.put(NEW)
        await self.termination.follow()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the condition is what a thread does
            await asyncio.sleep(0.001)


@pytest.fixture
async def world() -> World:
    return World()


async def test_the_kernel_has_the_new_backends_first(world: World) -> None:
    world.talk(7, OLD, "/netns/b")
    world.talk(8, NEW, "/netns/a")
    world.talk(9, OLD, "")
    await world.leave()
    assert world.events[0] == world.frontends.revision
    assert sorted(world.events[1:], key=str) == ["", "/netns/b"], "and nobody is looked for where nobody is"
    assert world.cookies() == [8]


async def test_a_pod_whose_cookie_is_not_known(world: World) -> None:
    world.others[1].upsert(Endpoint(EndpointId(2), "pod", (), netns="/netns/b"))
    world.talk(7, OLD, "/netns/b")
    await world.leave()
    assert sorted(world.events[1:], key=str) == ["", "/netns/b"]
    assert world.cookies() == []


async def test_nobody_talks_to_it(world: World) -> None:
    world.talk(8, NEW)
    await world.leave()
    assert world.events == [world.frontends.revision]


async def test_a_namespace_that_is_going(world: World) -> None:
    world.talk(7, OLD, "/netns/a")
    world.talk(8, OLD, "/netns/c")
    world.faults["/netns/a"] = NamespaceError("network namespace /netns/a: no such file")
    await world.leave()
    assert sorted(world.events[1:], key=str) == ["/netns/a", "/netns/c"]
    assert world.cookies() == [7]


async def test_a_refusal_ends_nothing_and_nobody(world: World) -> None:
    world.talk(7, OLD, "")
    world.faults[""] = NetlinkError("list sockets", errno.ENOBUFS)
    await world.leave()
    assert world.cookies() == [7]
    world.faults.clear()
    world.put(OLD)
    await world.leave()
    assert world.cookies() == []


async def test_a_pod_of_this_node_that_is_merely_unready(world: World) -> None:
    """It may be a local redirect's and in no slice: TCP goes on with it until it ends, though nobody names it then."""
    world.protocol = 6
    pod = Endpoint(EndpointId(9), "pod", (ip_address(OLD),))
    world.others[1].upsert(pod)
    world.talk(7, OLD)
    world.put(OLD, NEW, protocol="TCP")
    await world.termination.follow()
    world.put(NEW, protocol="TCP")
    await world.termination.follow()
    assert world.cookies() == [7]
    world.others[1].delete(pod.id)
    await world.termination.follow()
    assert world.cookies() == []


async def test_the_map_cannot_be_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise KernelError("dump", errno.EBADF)

    monkeypatch.setattr(world.reverse, "dump", refuse)
    await world.leave()
    assert world.events == [world.frontends.revision]


async def test_it_begins_with_what_went_before(world: World) -> None:
    world.talk(7, OLD)
    world.talk(8, NEW, "/netns/b")
    world.put(NEW)
    task = asyncio.create_task(world.termination.run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert world.events == [], "not before every source was heard"
    world.ready()
    await until(lambda: world.cookies() == [8])
    world.talk(9, OLD, "/netns/c")
    world.put(NEW, OLD)
    await until(lambda: not len(world.termination._changes))
    world.put(NEW)
    await until(lambda: world.cookies() == [8])
    task.cancel()


async def test_a_kernel_that_cannot_destroy_sockets(world: World) -> None:
    world.talk(7, OLD, "")
    world.put(NEW)
    world.ready()
    world.faults[""] = NetlinkError("destroy a socket", errno.EOPNOTSUPP)
    async with asyncio.timeout(5):
        await world.termination.run()
    assert world.cookies() == [7]
