"""The port to rtnetlink: put, remove and list rows of one network namespace.

In: rows (`links`, `rows`). Out: rows. The requests of a call travel in one batch and are answered one by one: a
failure leaves the others done. A call opens a socket of its own: any thread may call.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from cilium.datapath.errors import DatapathError
from cilium.datapath.netlink.links import (
    EXT_MASK,
    LINK_HEADER,
    SKIP_STATISTICS,
    Geneve,
    Link,
    LinkChange,
    LinkName,
    Veth,
    Vxlan,
)
from cilium.datapath.netlink.netns import run_in_netns
from cilium.datapath.netlink.rows import RTA_TABLE, SCOPE_NOWHERE, Address, Route
from cilium.datapath.netlink.wire import Flag, Message, Type, attribute, decode, encode, error_of

Row = Veth | Vxlan | Geneve | LinkChange | LinkName | Address | Route
T = TypeVar("T")

_SOL_NETLINK, _EXT_ACK, _CAP_ACK, _STRICT = 270, 11, 10, 12
_RECEIVE = 1 << 18
_BATCH = 64  # requests per datagram: their answers must fit into the socket's buffer
_PUT: dict[type, tuple[Type, Flag]] = {
    Veth: (Type.NEWLINK, Flag.CREATE | Flag.EXCL),
    Vxlan: (Type.NEWLINK, Flag.CREATE | Flag.EXCL),
    Geneve: (Type.NEWLINK, Flag.CREATE | Flag.EXCL),
    LinkChange: (Type.SETLINK, Flag(0)),
    Address: (Type.NEWADDR, Flag.CREATE | Flag.REPLACE),
    Route: (Type.NEWROUTE, Flag.CREATE | Flag.REPLACE),
}
_REMOVE: dict[type, Type] = {
    LinkName: Type.DELLINK,
    Address: Type.DELADDR,
    Route: Type.DELROUTE,
}
_ABSENT = (errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL)


class NetlinkError(DatapathError):
    """The kernel refused a request. `errno` is the kernel's, `row` what was asked for (None: a dump)."""

    def __init__(self, action: str, number: int, words: str = "", row: Row | None = None) -> None:
        self.errno, self.row = number, row
        name = errno.errorcode.get(number, str(number))
        super().__init__(f"{action}: {words or os.strerror(number)} ({name})")


class NetlinkBatchError(DatapathError):
    """Some requests of a batch failed; the others are done. `failures`: error by index into the rows given."""

    def __init__(self, failures: dict[int, NetlinkError]) -> None:
        self.failures = failures
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        super().__init__(f"{next(iter(failures.values()))}{more}")

    @property
    def first(self) -> NetlinkError:
        return next(iter(self.failures.values()))


class NetlinkPort(Protocol):
    """What features may ask of one network namespace."""

    def put(self, *rows: Row) -> None:
        """Create, or bring to what the rows say, in their order. Idempotent but for new devices.

        Raises NetlinkBatchError; a device that exists already fails with EEXIST.
        """

    def remove(self, *rows: Row) -> None:
        """Remove; what is absent is no error. Raises NetlinkBatchError.

        A route is named by destination, table, metric and our protocol number; interface and gateway where given.
        """

    def link(self, name: str) -> Link | None:
        """A device by name."""

    def links(self) -> list[Link]: ...

    def addresses(self) -> list[Address]: ...

    def routes(self, table: int = 0) -> list[Route]:
        """Of one table, or of all with 0; both families."""


class Netlink:
    """`NetlinkPort` of the kernel. `netns`: a descriptor, -1 for the caller's namespace."""

    def __init__(self, netns: int = -1) -> None:
        self._netns = netns

    def put(self, *rows: Row) -> None:
        """See NetlinkPort."""
        self._execute("create or change", [(*_PUT[type(row)], row) for row in rows])

    def remove(self, *rows: Row) -> None:
        """See NetlinkPort."""
        # A route is removed by what names it; what scope it had is the kernel's to know.
        named = (replace(row, scope=SCOPE_NOWHERE) if isinstance(row, Route) else row for row in rows)
        requests = [(_REMOVE[type(row)], Flag(0), row) for row in named]
        self._execute("remove", requests, harmless=_ABSENT)

    def link(self, name: str) -> Link | None:
        """See NetlinkPort. Raises NetlinkError."""
        with self._socket() as channel:
            channel.send(encode(Type.GETLINK, Flag.REQUEST, 1, LinkName(name).encode()))
            reply = next(decode(channel.recv(_RECEIVE)))
        if reply.type == Type.NEWLINK:
            return Link.decode(reply.body)
        number, words = error_of(reply)
        if number == errno.ENODEV:
            return None
        raise NetlinkError(f"look up interface {name}", number, words)

    def links(self) -> list[Link]:
        """See NetlinkPort. Raises NetlinkError."""
        body = LINK_HEADER.pack(0, 0, 0, 0, 0) + attribute(EXT_MASK, SKIP_STATISTICS)
        return self._dump(Type.GETLINK, body, Link.decode)

    def addresses(self) -> list[Address]:
        """See NetlinkPort. Raises NetlinkError."""
        return self._dump(Type.GETADDR, bytes(8), Address.decode)

    def routes(self, table: int = 0) -> list[Route]:
        """See NetlinkPort. Raises NetlinkError."""
        found: list[Route] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            body = bytes([family]) + bytes(11) + (attribute(RTA_TABLE, table) if table else b"")
            try:
                found += self._dump(Type.GETROUTE, body, Route.decode)
            except NetlinkError as error:
                if error.errno != errno.ENOENT:  # the table does not exist
                    raise
        # An IPv6 dump lists the cache's clones too, which bear no table of their own.
        return [route for route in found if not table or route.table == table]

    def _socket(self) -> socket.socket:
        def create() -> socket.socket:
            channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
            for option in (_EXT_ACK, _CAP_ACK, _STRICT):
                channel.setsockopt(_SOL_NETLINK, option, 1)
            channel.bind((0, 0))
            return channel

        return create() if self._netns < 0 else run_in_netns(self._netns, create)

    def _execute(
        self, verb: str, requests: Sequence[tuple[Type, Flag, Row]], *, harmless: Collection[int] = ()
    ) -> None:
        """`harmless`: errors that say that nothing was to be done."""
        failures: dict[int, NetlinkError] = {}
        with self._socket() as channel:
            for start in range(0, len(requests), _BATCH):
                part = requests[start : start + _BATCH]
                batch = (
                    encode(kind, Flag.REQUEST | Flag.ACK | flags, start + i, row.encode())
                    for i, (kind, flags, row) in enumerate(part)
                )
                channel.send(b"".join(batch))
                for message in _replies(channel, len(part)):
                    number, words = error_of(message)
                    row = requests[message.sequence][2]
                    if number and number not in harmless:
                        failures[message.sequence] = NetlinkError(f"{verb} {row}", number, words, row)
        if failures:
            raise NetlinkBatchError(failures)

    def _dump(self, kind: Type, body: bytes, parse: Callable[[bytes], T | None]) -> list[T]:
        for _attempt in range(5):
            rows, interrupted = self._dump_once(kind, body, parse)
            if not interrupted:
                break
        return rows

    def _dump_once(self, kind: Type, body: bytes, parse: Callable[[bytes], T | None]) -> tuple[list[T], bool]:
        """The rows, and whether the kernel says that they changed in between."""
        found: list[T] = []
        interrupted = False
        with self._socket() as channel:
            channel.send(encode(kind, Flag.REQUEST | Flag.DUMP, 1, body))
            while True:
                for message in decode(channel.recv(_RECEIVE)):
                    interrupted |= bool(message.flags & Flag.DUMP_INTERRUPTED)
                    if message.type == Type.DONE:
                        return found, interrupted
                    if message.type == Type.ERROR:
                        number, words = error_of(message)
                        raise NetlinkError(f"list ({kind.name})", number, words)
                    if (row := parse(message.body)) is not None:
                        found.append(row)


def _replies(channel: socket.socket, count: int) -> Iterator[Message]:
    """The acknowledgements of `count` requests."""
    while count > 0:
        for message in decode(channel.recv(_RECEIVE)):
            if message.type == Type.ERROR:
                count -= 1
                yield message
