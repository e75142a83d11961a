"""Rows of the `devices` table from what netlink lists. Pure.

In: devices, addresses and routes of the node's namespace, the names that settings select, the node's own addresses.
Out: one row per device but those of pods, which belong to their endpoints.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from cilium.datapath.names import POD_PREFIX
from cilium.datapath.netlink.links import Link
from cilium.datapath.netlink.rows import KIND_UNICAST, TABLE_MAIN, Address, Route
from cilium.tables.devices import Device
from cilium.tables.types import Ifindex, IPAddress

NEVER_SELECTED = ("lo", POD_PREFIX, "cilium_")
_TEMPORARY, _DAD_FAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x08, 0x20, 0x40  # IFA_F_*


def device_rows(
    *,
    links: Iterable[Link],
    addresses: Iterable[Address],
    routes: Iterable[Route],
    names: Collection[str] = (),
    node_addresses: Collection[IPAddress] = (),
) -> list[Device]:
    """`names`: the devices that connect this node to others; a trailing `+` stands for any ending. Empty: those with a
    default route or one of `node_addresses`.
    """
    usable: defaultdict[int, list[Address]] = defaultdict(list)
    for address in addresses:
        if not address.flags & (_DAD_FAILED | _DEPRECATED | _TENTATIVE):
            usable[address.ifindex].append(address)
    defaults = {r.ifindex for r in routes if r.default and r.table == TABLE_MAIN and r.kind == KIND_UNICAST}
    rows = []
    for link in links:
        if link.name.startswith(POD_PREFIX):
            continue
        # IPv6's temporary addresses (RFC 8981) come last: features take the first of a family for the node's.
        own = sorted(usable[link.ifindex], key=lambda a: a.interface.version == 6 and bool(a.flags & _TEMPORARY))
        rows.append(
            Device(
                ifindex=Ifindex(link.ifindex),
                name=link.name,
                kind=link.kind,
                mac=link.mac,
                mtu=link.mtu,
                up=link.up,
                addresses=tuple(address.interface for address in own),
                selected=selected(
                    link.name,
                    names,
                    connects=link.ifindex in defaults or any(a.interface.ip in node_addresses for a in own),
                ),
            )
        )
    return rows


def selected(name: str, names: Collection[str], *, connects: bool) -> bool:
    """Whether a device connects this node to others."""
    if name == "lo" or name.startswith(NEVER_SELECTED[1:]):
        return False
    if names:
        return any(name.startswith(each[:-1]) if each.endswith("+") else name == each for each in names)
    return connects
