"""Which service an address and port stand for.

Owns: `ServiceNames`, asked when a flow is decoded, and `Places`, the addresses of some services for filters. It has no
index of its own: the rows of the table `frontends` are found by their keys. Services that are gone keep their names for
a while: flows outlive them.
Comes in: `frontends`, and who says which addresses are a node's. Goes out: (namespace, name).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cilium.hubble import texts
from cilium.hubble.addresses import Mask, fingerprints, packed, unpacked
from cilium.hubble.remembering import REMEMBERED
from cilium.state.table import Table
from cilium.tables.identities import Reserved
from cilium.tables.services import Frontend, FrontendKey, Scope, shown_name
from cilium.tables.types import IPAddress

ServiceName = tuple[str, str]
"""(namespace, name)."""
Column = NDArray[Any]

_NUMBERS = {name: number for number, name in texts.PROTOCOLS.items()}
_UNSPECIFIED: dict[int, IPAddress] = {4: IPv4Address(0), 6: IPv6Address(0)}
_NODES = (Reserved.HOST, Reserved.REMOTE_NODE, Reserved.KUBE_APISERVER)
_SCOPE_MASK, _SCOPE_REMOTE_NODE = 0xFF000000, 2 << 24
_MIX = np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True, slots=True)
class Places:
    """Where some services are found, as numbers: those of (address, port, protocol), and of node ports those of
    (port, protocol), which may be of any address. A row that `match` selects may be a stranger that shares a number."""

    addresses: Column
    node_ports: Column

    def match(self, address: Column, port: Column, protocol: Column) -> Mask:
        doors = _doors(port, protocol)
        mask: Mask = np.isin(_spots(address, doors), self.addresses) | np.isin(doors, self.node_ports)
        return mask


def _doors(port: Column, protocol: Column) -> Column:
    return port.astype(np.uint64) << np.uint64(8) | protocol.astype(np.uint64)


def _spots(address: Column, doors: Column) -> Column:
    spots: Column = fingerprints(address) ^ (doors * _MIX)
    return spots


class ServiceNames:
    """`identity_at` tells the identity of an address, 0 if it is unknown. `generation` grows with every change."""

    def __init__(
        self, frontends: Table[FrontendKey, Frontend], *, identity_at: Callable[[bytes], int], wake: asyncio.Event
    ) -> None:
        self.generation = 0
        self._frontends = frontends
        self._changes = frontends.changes(wake=wake)
        self._identity_at = identity_at
        self._gone: dict[FrontendKey, Frontend] = {}
        self._ports: Counter[int] = Counter()
        """Of all services, gone ones included: most ports of flows are none of them, and cost no more than this."""

    def refresh(self) -> None:
        """Take in what changed in the table."""
        changes = self._changes.pop()
        if changes:
            self.generation += 1
        for change in changes:
            if change.new is None:
                self._bury(change.key, change.old)
            elif self._gone.pop(change.key, None) is None and change.old is None:
                self._ports[change.new.port] += 1

    def at(self, address: bytes, port: int, protocol: int) -> ServiceName | None:
        """The service that is asked for at this place."""
        if port not in self._ports:
            return None
        known = unpacked(address)
        row = self._row(known, port, protocol)
        if row is None and (row := self._row(_UNSPECIFIED[known.version], port, protocol)) is not None:
            own, node = self._whose(known, address)
            if not (own if row.kind == "HostPort" else node):
                return None
        return _name(row) if row is not None else None

    def places(self, accept: Callable[[str, str], bool]) -> Places:
        """Those of the services whose namespace and name are accepted, gone ones included."""
        addresses: list[bytes] = []
        doors: list[int] = []
        node_ports: set[int] = set()
        for row in self._with_gone():
            if row.protocol not in _NUMBERS or not accept(*_name(row)):
                continue
            door = row.port << 8 | _NUMBERS[row.protocol]
            if row.address.is_unspecified:
                node_ports.add(door)
            else:
                addresses.append(packed(row.address))
                doors.append(door)
        column = np.frombuffer(b"".join(addresses), "V16")
        return Places(_spots(column, np.array(doors, np.uint64)), np.array(sorted(node_ports), np.uint64))

    def _with_gone(self) -> Iterable[Frontend]:
        yield from self._gone.values()
        yield from self._frontends.snapshot()

    def _row(self, address: IPAddress, port: int, protocol: int) -> Frontend | None:
        name = texts.PROTOCOLS.get(protocol, "")
        rows = self._frontends.snapshot()
        keys = [(address, port, name, scope) for scope in Scope]
        living = (rows.get(key) for key in keys)
        return next(filter(None, living), None) or next(filter(None, map(self._gone.get, keys)), None)

    def _whose(self, known: IPAddress, address: bytes) -> tuple[bool, bool]:
        """Whether it is this node's address, and whether it is any node's."""
        identity = Reserved.HOST if known.is_loopback else self._identity_at(address)
        node = identity in _NODES or identity & _SCOPE_MASK == _SCOPE_REMOTE_NODE
        return identity == Reserved.HOST, node

    def _bury(self, key: FrontendKey, row: Frontend | None) -> None:
        if row is None:
            return
        self._gone[key] = Frontend(row.address, row.port, row.protocol, row.service, row.port_name, row.kind)
        if len(self._gone) > REMEMBERED:
            oldest = self._gone.pop(next(iter(self._gone)))
            self._ports[oldest.port] -= 1
            if not self._ports[oldest.port]:
                del self._ports[oldest.port]


def _name(row: Frontend) -> ServiceName:
    namespace, _, name = shown_name(row.service).rpartition("/")
    return namespace, name
