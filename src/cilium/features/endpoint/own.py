"""An endpoint of the agent itself, such as the one of health checks: an interface like a pod's, made at every start.

In: a network namespace, the state directory. Out: its row of `endpoints`. Its namespace ends with the agent, so the
interface is made anew each time; number and addresses are those of last time, as long as the node still has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

import structlog

from cilium.features.endpoint.manager import Addresses, Links
from cilium.features.endpoint.statedir import StateDirectory
from cilium.state import Table, Writer
from cilium.tables.endpoints import Endpoint
from cilium.tables.types import EndpointId, IPAddress

log = structlog.get_logger("endpoint")


class OwnAddresses(Addresses, Protocol):
    def fits(self, addresses: Sequence[IPAddress]) -> bool:
        """Whether these are one free or own address per family, all of this node's CIDRs."""


class OwnEndpoint:
    """`kind` is also the owner of its addresses; `ifname` the host side's name."""

    def __init__(
        self,
        *,
        kind: str,
        ifname: str,
        table: Table[EndpointId, Endpoint],
        writer: Writer[EndpointId, Endpoint],
        state: StateDirectory,
        links: Links,
        addresses: OwnAddresses,
        free_id: Callable[[], EndpointId],
        gateways: Callable[[], Sequence[IPAddress]],
        mtu: Callable[[], int],
    ) -> None:
        self._kind, self._ifname = kind, ifname
        self._table, self._writer, self._state = table, writer, state
        self._links, self._addresses, self._free_id = links, addresses, free_id
        self._gateways, self._mtu = gateways, mtu

    async def make(self, netns_fd: int) -> Endpoint:
        """Connects the namespace. Raises OSError, or what the allocator raises when it has no address.

        Call it after the pods of the last agent were restored: their addresses and numbers are theirs.
        """
        before = remembered(self._state, self._kind)
        if before is not None and self._addresses.fits(before.addresses):
            addresses = before.addresses
            self._addresses.claim(addresses, self._kind)
        else:
            addresses = self._addresses.allocate(self._kind)
        number = before.id if before is not None and before.id not in self._table.snapshot() else self._free_id()
        try:
            link = await self._links.connect(
                ifname=self._ifname,
                container_ifname="eth0",
                netns_fd=netns_fd,
                addresses=addresses,
                gateways=self._gateways(),
                mtu=self._mtu(),
            )
        except BaseException:
            self._addresses.release(addresses)
            raise
        endpoint = Endpoint(
            id=number,
            kind=self._kind,
            addresses=addresses,
            ifname=self._ifname,
            ifindex=link.ifindex,
            mac=link.mac,
            host_mac=link.host_mac,
            netns_cookie=link.netns_cookie,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        if before is not None and before.id != number:
            self._state.remove(before.id)
        self._state.save(endpoint)
        self._writer.upsert(endpoint)
        log.info("endpoint created", endpoint=number, kind=self._kind, addresses=list(map(str, addresses)))
        return endpoint

    async def remove(self) -> None:
        """Whatever an agent with other settings left; absence is no error."""
        await self._links.disconnect(self._ifname)
        if (before := remembered(self._state, self._kind)) is not None:
            self._state.remove(before.id)


def remembered(state: StateDirectory, kind: str) -> Endpoint | None:
    """What the last agent made of this kind."""
    return next((endpoint for endpoint in state.load() if endpoint.kind == kind), None)
