"""Which program runs where.

In: `endpoints`, `devices`. Out: `attachments`, `netdevs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cilium.datapath.names import GENEVE_DEVICE, HOST_DEVICE, VXLAN_DEVICE
from cilium.features.programs.rows import Attachment, NetdevEntry
from cilium.state import RowChanges, View
from cilium.tables.devices import Device
from cilium.tables.types import IPAddress

BASE = {
    HOST_DEVICE: (("egress", "from_host"),),
    VXLAN_DEVICE: (("ingress", "from_overlay"),),
    GENEVE_DEVICE: (("ingress", "from_overlay"),),
}
ENDPOINT_HOOKS = (("ingress", "from_lxc"), ("egress", "to_lxc"))
NETDEV_HOOKS = (("ingress", "from_netdev"), ("egress", "to_netdev"))
XDP_HOOK = ("xdp", "from_wire")


class Attachments:
    """The derivation. `accelerated`: what connects this node to others forwards for services in XDP."""

    def __init__(self, *, accelerated: bool = False) -> None:
        self._netdev_hooks = (*NETDEV_HOOKS, *([XDP_HOOK] if accelerated else []))
        self._present: set[tuple[str, str]] = set()
        self._netdevs: set[int] = set()

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        rows = [*self._of_endpoints(view), *self._of_devices(view)]
        keys = {row.key for row in rows}
        gone, self._present = self._present - keys, keys
        netdevs = [netdev(device) for device in view.snapshots["devices"] if device.selected and device.up]
        indexes = {int(row.ifindex) for row in netdevs}
        left, self._netdevs = self._netdevs - indexes, indexes
        return {
            "attachments": RowChanges(upserts=rows, deletes=list(gone)),
            "netdevs": RowChanges(upserts=netdevs, deletes=list(left)),
        }

    def _of_endpoints(self, view: View) -> Iterable[Attachment]:
        for endpoint in view.snapshots["endpoints"]:
            if endpoint.ifname:
                for hook, program in ENDPOINT_HOOKS:
                    yield Attachment(device=endpoint.ifname, ifindex=endpoint.ifindex, hook=hook, program=program)

    def _of_devices(self, view: View) -> Iterable[Attachment]:
        for device in view.snapshots["devices"]:
            hooks = BASE.get(device.name, self._netdev_hooks if device.selected else ())
            for hook, program in hooks:
                yield Attachment(device=device.name, ifindex=device.ifindex, hook=hook, program=program)


def netdev(device: Device) -> NetdevEntry:
    """The first global address of each family is what masqueraded packets carry."""
    first: dict[int, IPAddress | None] = {4: None, 6: None}
    for interface in device.addresses:
        if not interface.ip.is_link_local and first[interface.version] is None:
            first[interface.version] = interface.ip
    return NetdevEntry(
        ifindex=device.ifindex, mac=device.mac, kind=device.kind, masquerade4=first[4], masquerade6=first[6]
    )
