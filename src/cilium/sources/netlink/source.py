"""Watches the devices of this node. In: netlink's announcements. Out: the table `devices`.

Every announcement that could matter leads to one new listing after a short pause, and only what differs reaches the
table: what was missed, or came in another order, heals by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import structlog

from cilium.datapath.names import POD_PREFIX
from cilium.datapath.netlink.links import Link
from cilium.datapath.netlink.monitor import NetlinkMonitor
from cilium.datapath.netlink.port import Netlink, NetlinkError
from cilium.datapath.netlink.rows import ADDRESS_HEADER, ROUTE_HEADER, TABLE_MAIN
from cilium.datapath.netlink.wire import Message, Type
from cilium.sources.netlink.devices import device_rows
from cilium.state import Table
from cilium.tables.devices import Device
from cilium.tables.types import IPAddress

log = structlog.get_logger("netlink")
PAUSE = 0.02
RETRY = 1.0


class NetlinkSource:
    """The one writer of `devices`, which is initialised with the first listing.

    `names`: see `device_rows`. `netns`: a descriptor of the node's namespace, -1 for the process's own.
    """

    def __init__(self, *, table: Table[int, Device], names: Collection[str] = (), netns: int = -1) -> None:
        self._table, self._names, self._netns = table, tuple(names), netns
        self._writer = table.writer("netlink")
        self._listed = self._writer.initializer("first listing")
        self._netlink = Netlink(netns)
        self._node_addresses: frozenset[IPAddress] = frozenset()
        self._pods: set[int] = set()

    def set_node_addresses(self, addresses: Collection[IPAddress]) -> None:
        """The node's InternalIPs, once Kubernetes has said them: their devices are selected too."""
        if self._node_addresses != frozenset(addresses):
            self._node_addresses = frozenset(addresses)
            if self._table.initialized:
                self._list()

    async def run(self) -> None:
        """Until cancelled. Raises OSError or NamespaceError when the namespace cannot be watched at all."""
        with NetlinkMonitor(self._netns) as monitor:
            await self._list_until_it_works()
            self._listed()
            log.info("devices listed", devices=len(self._table), selected=self._selected())
            while True:
                messages = await monitor.receive()
                if messages is None or self._matters(messages):
                    await asyncio.sleep(PAUSE)
                    await self._list_until_it_works()

    async def _list_until_it_works(self) -> None:
        while True:
            try:
                return self._list()
            except NetlinkError as error:
                log.warning("listing devices failed", error=str(error), retry_seconds=RETRY)
                await asyncio.sleep(RETRY)

    def _list(self) -> None:
        links = self._netlink.links()
        self._pods = {link.ifindex for link in links if link.name.startswith(POD_PREFIX)}
        rows = device_rows(
            links=links,
            addresses=self._netlink.addresses(),
            routes=self._netlink.routes(TABLE_MAIN),
            names=self._names,
            node_addresses=self._node_addresses,
        )
        present = {row.ifindex for row in rows}
        gone = [row.ifindex for row in self._table.snapshot() if row.ifindex not in present]
        self._writer.commit(upserts=rows, deletes=gone)

    def _matters(self, messages: Sequence[Message]) -> bool:
        """Pods come and go; that is no news of the node."""
        return any(self._one_matters(message) for message in messages)

    def _one_matters(self, message: Message) -> bool:
        match message.type:
            case Type.NEWLINK | Type.DELLINK:
                link = Link.decode(message.body)
                if not link.name.startswith(POD_PREFIX):
                    return True
                self._pods.add(link.ifindex)
                return False
            case Type.NEWADDR | Type.DELADDR:
                ifindex: int = ADDRESS_HEADER.unpack_from(message.body)[4]
                return ifindex not in self._pods
            case Type.NEWROUTE | Type.DELROUTE:
                prefix_length: int = ROUTE_HEADER.unpack_from(message.body)[1]
                return prefix_length == 0  # only default routes select devices
            case _:
                return False

    def _selected(self) -> list[str]:
        return sorted(row.name for row in self._table.snapshot() if row.selected)
