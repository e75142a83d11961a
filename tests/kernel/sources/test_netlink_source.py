"""The devices table follows a real namespace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_interface

import pytest
from kernel.datapath.namespaces import Namespace, namespace

from cilium.datapath.netlink.netns import NamespaceError
from cilium.sources.netlink.source import NetlinkSource
from cilium.state import Table
from cilium.tables.devices import Device

pytestmark = pytest.mark.kernel


@pytest.fixture
def node() -> Iterator[Namespace]:
    with namespace() as made:
        made.ip("link", "add", "eth0", "type", "veth", "peer", "name", "far0")
        made.ip("link", "set", "eth0", "up")
        made.ip("address", "add", "192.0.2.10/24", "dev", "eth0")
        yield made


def devices() -> Table[int, Device]:
    return Table("devices", key=lambda row: row.ifindex, indexes={"name": lambda row: (row.name,)})


@asynccontextmanager
async def running(source: NetlinkSource, table: Table[int, Device]) -> AsyncIterator[None]:
    task = asyncio.create_task(source.run())
    async with asyncio.timeout(10):
        await table.wait_initialized()
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(table: Table[int, Device], holds: Callable[[dict[str, Device]], bool]) -> None:
    stream = table.changes()
    async with asyncio.timeout(10):
        while not holds({row.name: row for row in table.snapshot()}):
            stream.pop()
            await stream.wait()


async def test_the_table_follows_devices_addresses_and_routes(node: Namespace) -> None:
    table = devices()
    async with running(NetlinkSource(table=table, netns=node.fd), table):
        rows = {row.name: row for row in table.snapshot()}
        assert rows["eth0"].addresses[0] == ip_interface("192.0.2.10/24")
        assert not rows["eth0"].selected
        node.ip("link", "set", "far0", "up")
        node.ip("route", "add", "default", "via", "192.0.2.1", "dev", "eth0")
        await until(table, lambda rows: rows["eth0"].selected)
        node.ip("address", "add", "2001:db8::1/64", "dev", "eth0", "nodad")
        await until(table, lambda rows: ip_interface("2001:db8::1/64") in rows["eth0"].addresses)
        node.ip("link", "set", "eth0", "mtu", "1400")
        await until(table, lambda rows: rows["eth0"].mtu == 1400)
        node.ip("route", "delete", "default")
        await until(table, lambda rows: not rows["eth0"].selected)
        node.ip("address", "delete", "192.0.2.10/24", "dev", "eth0")
        await until(table, lambda rows: ip_interface("192.0.2.10/24") not in rows["eth0"].addresses)
        node.ip("link", "delete", "eth0")
        await until(table, lambda rows: set(rows) == {"lo"})


async def test_the_nodes_address_selects_its_device(node: Namespace) -> None:
    table = devices()
    source = NetlinkSource(table=table, netns=node.fd)
    async with running(source, table):
        source.set_node_addresses([ip_address("192.0.2.10")])
        assert [row.name for row in table.snapshot() if row.selected] == ["eth0"]


async def test_pods_are_no_news(node: Namespace) -> None:
    table = devices()
    async with running(NetlinkSource(table=table, netns=node.fd), table):
        await until(table, lambda rows: "eth0" in rows)
        revision = table.revision
        node.ip("link", "add", "lxc1", "type", "veth", "peer", "name", "lxc2")
        node.ip("link", "set", "lxc1", "up")
        node.ip("link", "delete", "lxc1")
        node.ip("link", "set", "eth0", "mtu", "1300")  # heard after all of that
        await until(table, lambda rows: rows["eth0"].mtu == 1300)
        assert table.revision == revision + 1
        assert {row.name for row in table.snapshot()} == {"lo", "eth0", "far0"}


async def test_a_namespace_that_is_none() -> None:
    with pytest.raises(NamespaceError):
        await NetlinkSource(table=devices(), netns=9999).run()
