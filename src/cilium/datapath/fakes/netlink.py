"""One network namespace in memory: devices, addresses, routes, kernel parameters."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from itertools import count

from cilium.datapath.netlink.links import NOARP, UP, Geneve, Link, LinkChange, LinkName, Veth, Vxlan
from cilium.datapath.netlink.port import NetlinkBatchError, NetlinkError, Row
from cilium.datapath.netlink.rows import Address, Route


class FakeNetlink:
    """`NetlinkPort` in memory. `fail_next(n)`: the next n rows fail with errno `error`.

    A veth's peer in another namespace is not seen. Routes need their device; a device takes its addresses and routes
    with it, as in the kernel.
    """

    def __init__(self) -> None:
        self._indexes = count(2)
        self._links: dict[str, Link] = {"lo": Link(1, "lo", "", "00:00:00:00:00:00", 65536, UP)}
        self._addresses: dict[tuple[int, object], Address] = {}
        self._routes: dict[tuple[object, int, int], Route] = {}
        self._failing, self._error = 0, errno.ENOMEM

    def fail_next(self, number: int = 1, error: int = errno.ENOMEM) -> None:
        """Let the next `number` rows fail."""
        self._failing, self._error = number, error

    def add_link(self, name: str, *, kind: str = "", mtu: int = 1500, up: bool = True, mac: str = "") -> Link:
        """A device that the test finds there, such as hardware."""
        index = next(self._indexes)
        link = Link(index, name, kind, mac or f"02:00:00:00:{index >> 8:02x}:{index & 255:02x}", mtu, UP if up else 0)
        self._links[name] = link
        return link

    def put(self, *rows: Row) -> None:
        """See NetlinkPort."""
        self._run("create or change", rows, self._put)

    def remove(self, *rows: Row) -> None:
        """See NetlinkPort."""
        self._run("remove", rows, self._remove)

    def link(self, name: str) -> Link | None:
        """See NetlinkPort."""
        return self._links.get(name)

    def links(self) -> list[Link]:
        """See NetlinkPort."""
        return list(self._links.values())

    def addresses(self) -> list[Address]:
        """See NetlinkPort."""
        return list(self._addresses.values())

    def routes(self, table: int = 0) -> list[Route]:
        """See NetlinkPort."""
        return [route for route in self._routes.values() if table in (0, route.table)]

    def _run(self, verb: str, rows: tuple[Row, ...], action: Callable[[Row], int]) -> None:
        failures: dict[int, NetlinkError] = {}
        for i, row in enumerate(rows):
            if self._failing:
                self._failing, number = self._failing - 1, self._error
            else:
                number = action(row)
            if number:
                failures[i] = NetlinkError(f"{verb} {row}", number, row=row)
        if failures:
            raise NetlinkBatchError(failures)

    def _put(self, row: Row) -> int:
        """0 or errno."""
        match row:
            case Veth() | Vxlan() | Geneve():
                return self._create(row)
            case LinkChange():
                return self._change(row)
            case Address() | Route() if row.ifindex and not self._by_index(row.ifindex):
                return errno.ENODEV
            case Address():
                self._addresses[row.ifindex, row.interface] = row
            case Route():
                metric = row.metric or (1024 if row.destination.version == 6 else 0)
                self._routes[row.destination, row.table, metric] = replace(row, metric=metric)
            case _:
                pass
        return 0

    def _create(self, row: Veth | Vxlan | Geneve) -> int:
        names = [row.name] + ([row.peer] if isinstance(row, Veth) and row.peer_netns < 0 else [])
        if any(name in self._links for name in names):
            return errno.EEXIST
        kind = type(row).__name__.lower()
        made = [self.add_link(name, kind=kind, mtu=row.mtu or 1500, up=False, mac="") for name in names]
        if row.mac:
            made[0] = replace(made[0], mac=row.mac)
        if not isinstance(row, Veth):
            port = row.port.to_bytes(2, "big")
            data = {15: port, 25: b"\1"} if isinstance(row, Vxlan) else {5: port, 6: b""}
            made[0] = replace(made[0], flags=UP, data=data)
        elif len(made) == 2:
            made = [replace(made[0], lower=made[1].ifindex), replace(made[1], lower=made[0].ifindex)]
        if isinstance(row, Veth) and row.up:
            made[0] = replace(made[0], flags=UP)
        self._links |= {link.name: link for link in made}
        return 0

    def _change(self, row: LinkChange) -> int:
        link = self._by_index(row.ifindex) if row.ifindex else self._links.get(row.name)
        if link is None:
            return errno.ENODEV
        flags = link.flags
        if row.up is not None:
            flags = flags | UP if row.up else flags & ~UP
        if row.arp is not None:
            flags = flags & ~NOARP if row.arp else flags | NOARP
        self._links[link.name] = replace(link, flags=flags, mtu=row.mtu or link.mtu, mac=row.mac or link.mac)
        return 0

    def _remove(self, row: Row) -> int:
        match row:
            case LinkName():
                link = self._links.pop(row.name, None)
                peer = self._by_index(link.lower) if link and link.kind == "veth" else None
                for each in filter(None, (link, peer)):
                    self._forget(each)
            case Address():
                self._addresses.pop((row.ifindex, row.interface), None)
            case Route():
                metric = row.metric or (1024 if row.destination.version == 6 else 0)
                self._routes.pop((row.destination, row.table, metric), None)
            case _:
                pass
        return 0

    def _forget(self, link: Link) -> None:
        self._links.pop(link.name, None)
        self._addresses = {k: v for k, v in self._addresses.items() if v.ifindex != link.ifindex}
        self._routes = {k: v for k, v in self._routes.items() if v.ifindex != link.ifindex}

    def _by_index(self, ifindex: int) -> Link | None:
        return next((link for link in self._links.values() if link.ifindex == ifindex), None)


class FakeSysctls:
    """`SysctlPort` in memory; a parameter that was never written is "0"."""

    def __init__(self, values: dict[str, str] | None = None) -> None:
        self.values = values or {}

    def read(self, path: str) -> str:
        """See SysctlPort."""
        return self.values.get(path, "0")

    def write(self, path: str, value: int | str) -> bool:
        """See SysctlPort."""
        changed = self.read(path) != str(value)
        self.values[path] = str(value)
        return changed
