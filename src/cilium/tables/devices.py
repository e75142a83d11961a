"""What netlink says of this node: observed tables, written by sources/netlink."""

from __future__ import annotations

import msgspec

from cilium.tables.types import Ifindex, IPInterface


class Device(msgspec.Struct, frozen=True):
    """Table `devices`, key `ifindex`, index `name`. Pods' interfaces (lxc*) are not here but in `endpoints`."""

    ifindex: Ifindex
    name: str
    kind: str
    """veth, vxlan, bridge, … as in IFLA_INFO_KIND; empty for hardware."""
    mac: str
    mtu: int
    up: bool
    addresses: tuple[IPInterface, ...] = ()
    selected: bool = False
    """Connects this node to others: carries a default route or the node's InternalIP, or named by `devices`."""
