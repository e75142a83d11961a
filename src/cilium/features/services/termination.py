"""Ends the sockets that talk to backends which are no more, so that their processes connect anew at once.

In: `frontends` and what the services reconciler has done of it, `endpoint-slices`, `endpoints`; cilium_lb_reverse, in
which the datapath notes which socket meant which service. Out: sockets destroyed, in the network namespaces of the node
and of every pod.

A backend is no more when no frontend has it: one that terminates and still serves is there. Of UDP that is enough: its
clients would never hear of it. A TCP connection may go on with a pod that is merely unready, or whose service was
deleted: it is ended if its service is there, no slice has the address any more, and no pod of this node has it, which
only the end of the pod brings about; pods that local redirects choose may be in no slice. That such a pod of this node
has ended, its endpoint tells. Sockets that connected to the address itself mean it, and are left alone.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import numpy as np
import structlog

from cilium.datapath.addresses import address_bytes, address_from
from cilium.datapath.errors import DatapathError
from cilium.datapath.maps import Array, BpfMap
from cilium.datapath.netlink.connections import DestroySockets, Peer, destroy_sockets
from cilium.datapath.netlink.netns import NamespaceError
from cilium.datapath.netlink.port import NetlinkError
from cilium.state import Change, Snapshot, Table
from cilium.tables.endpoints import Endpoint
from cilium.tables.services import EndpointSlice, Frontend, FrontendKey, Scope
from cilium.tables.types import EndpointId, IPAddress

TCP, UDP = 6, 17
PROTOCOLS = {"TCP": TCP, "UDP": UDP}
PAUSE = 0.05
"""Seconds between two rounds: what leaves meanwhile is ended together."""
UNSPECIFIED: Mapping[int, IPAddress] = {4: IPv4Address(0), 6: IPv6Address(0)}

ByNamespace = dict[int, set[tuple[int, Peer]]]
"""Sockets by the cookie of their network namespace."""

log = structlog.get_logger("services")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the tables say at one moment."""

    frontends: Snapshot[FrontendKey, Frontend]
    slices: Snapshot[str, EndpointSlice]
    endpoints: Snapshot[EndpointId, Endpoint]


class Termination:
    """`run` is the task. `settled`: returns when the kernel follows `frontends` up to a revision: who connects anew
    must not find the old backend.
    """

    def __init__(
        self,
        *,
        frontends: Table[FrontendKey, Frontend],
        slices: Table[str, EndpointSlice],
        endpoints: Table[EndpointId, Endpoint],
        reverse: BpfMap,
        settled: Callable[[int], Awaitable[None]],
        destroy: DestroySockets = destroy_sockets,
        pause: float = PAUSE,
    ) -> None:
        self._frontends, self._slices, self._endpoints = frontends, slices, endpoints
        self._reverse, self._settled, self._destroy, self._pause = reverse, settled, destroy, pause
        wake = asyncio.Event()
        self._changes, self._pods = frontends.changes(wake=wake), endpoints.changes(wake=wake)

    async def run(self) -> None:
        """Begins with what went while no agent was there. Returns where the kernel cannot destroy sockets."""
        for table in (self._frontends, self._slices, self._endpoints):
            await table.wait_initialized()
        self._changes.pop()
        self._pods.pop()
        await self._settled(self._frontends.revision)
        try:
            await self.end(None)
            while True:
                await asyncio.sleep(self._pause)
                await self._changes.wait()
                await self.follow()
        except NetlinkError as error:
            log.warning("sockets of backends that are gone stay as they are", error=str(error))

    async def follow(self) -> None:
        """One round: what has left `frontends` since the last one, and pods of this node that have ended."""
        batch, pods = self._changes.pop(), self._pods.pop()
        gone = left(batch)
        ended = frozenset(
            address_bytes(address)
            for change in pods
            if change.new is None and change.old is not None
            for address in change.old.addresses
        )
        if gone:
            await self._settled(max(change.revision for change in batch))
        if gone or ended:
            await self.end(gone, ended)

    async def end(self, gone: set[Peer] | None, ended: Set[bytes] = frozenset()) -> None:
        """`gone`: who may be no more; None: anybody that a socket talks to; `ended`: addresses of pods that are over.
        Raises NetlinkError (EOPNOTSUPP).
        """
        wanted = Wanted(
            frontends=self._frontends.snapshot(), slices=self._slices.snapshot(), endpoints=self._endpoints.snapshot()
        )
        try:
            count = await asyncio.to_thread(self._end, gone, ended, wanted)
        except DatapathError as error:
            if isinstance(error, NetlinkError) and error.errno == errno.EOPNOTSUPP:
                raise
            log.warning("sockets of backends that are gone not ended", error=str(error))
        else:
            if count:
                log.info("ended sockets of backends that are gone", sockets=count)

    def _end(self, gone: set[Peer] | None, over: Set[bytes], wanted: Wanted) -> int:
        keys, values = self._reverse.dump()
        peers = talked_to(keys)
        if gone is not None:
            ends = {(peer.address, peer.port) for peer in gone}
            kept = [place for place, end in enumerate(peers) if end in ends or end[0] in over]
        else:
            kept = list(range(len(peers)))
            gone = {Peer(number, *end) for end in set(peers) for number in (TCP, UDP)}
        if not kept:
            return 0
        doomed = gone - {peer for row in wanted.frontends for peer in backends(row)}
        alive = {address_bytes(end.address) for one in wanted.slices for end in one.endpoints}
        alive |= {address_bytes(address) for pod in wanted.endpoints for address in pod.addresses}
        sockets: ByNamespace = {}
        for place in kept:
            cookie, (address, port) = int(keys["cookie"][place]), peers[place]
            udp, tcp = Peer(UDP, address, port), Peer(TCP, address, port)
            mine = sockets.setdefault(int(values["netns_cookie"][place]), set())
            if udp in doomed:
                mine.add((cookie, udp))
            lost = address in over or (tcp in doomed and is_served(values[place], wanted.frontends))
            if lost and address not in alive:
                mine.add((cookie, tcp))
        ended = self._in_all(sockets, wanted.endpoints)
        if ended:
            self._reverse.delete(keys[np.isin(keys["cookie"], list(ended))])
        return len(ended)

    def _in_all(
        self, sockets: Mapping[int, set[tuple[int, Peer]]], endpoints: Snapshot[EndpointId, Endpoint]
    ) -> set[int]:
        """What is nobody's here is the node's, or of a pod whose cookie is not known."""
        places = {row.netns_cookie: row.netns for row in endpoints if row.netns}
        others = ["", *(row.netns for row in endpoints if row.netns and not row.netns_cookie)]
        ended: set[int] = set()
        for cookie, wanted in sockets.items():
            for netns in [places[cookie]] if cookie in places else others:
                try:
                    ended |= self._destroy(netns, wanted) if wanted else set()
                except NamespaceError as error:  # the pod is going
                    log.debug("sockets not looked at", error=str(error))
        return ended


def backends(row: Frontend) -> Iterator[Peer]:
    protocol = PROTOCOLS.get(row.protocol)
    if protocol is not None:
        yield from (Peer(protocol, address_bytes(end.address), end.port) for end in row.backends)


def left(batch: Sequence[Change[FrontendKey, Frontend]]) -> set[Peer]:
    """Backends that some row had and has no more."""
    gone: set[Peer] = set()
    for change in batch:
        if change.old is not None:
            gone |= set(backends(change.old)) - set(backends(change.new) if change.new is not None else ())
    return gone


def talked_to(keys: Array) -> list[tuple[bytes, int]]:
    """(address, port) of the backend in each key of cilium_lb_reverse."""
    addresses = np.ascontiguousarray(keys["address"]).view("V16").ravel().tolist()
    return list(zip(addresses, keys["port"].tolist(), strict=True))


def is_served(meant: Any, frontends: Snapshot[FrontendKey, Frontend]) -> bool:
    """Whether what a socket meant, an entry of cilium_lb_reverse, still is a service of TCP."""
    address, port = address_from(meant["address"]), int(meant["port"])
    return any((each, port, "TCP", Scope.CLUSTER) in frontends for each in (address, UNSPECIFIED[address.version]))
