"""Attaches programs and describes devices to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cilium.datapath.addresses import addresses_array, mac_bytes
from cilium.datapath.batches import delete_rows, prune, update_rows
from cilium.datapath.generated import NETDEV
from cilium.datapath.hooks import XDP, DeviceLinks, Direction, XdpLinks, XdpMode
from cilium.datapath.libbpf.objects import Program
from cilium.datapath.maps import BpfMap
from cilium.features.programs.rows import Attachment, NetdevEntry, XdpDevice
from cilium.state import Writer
from cilium.state.outcomes import each
from cilium.state.reconciler import Errors

IN_THE_STACK = "_generic"
"""Behind a program's name: the same, for generic mode."""


class AttachmentOps:
    """Operations of the `attachments` reconciler. A device that vanished took its link along: no error.

    `fallback`: a device without native XDP may run it in the stack. `modes` learns how each device runs it.
    """

    def __init__(
        self,
        *,
        links: DeviceLinks,
        xdp: XdpLinks,
        programs: Mapping[str, Program],
        fallback: bool,
        modes: Writer[str, XdpDevice],
    ) -> None:
        self._links, self._xdp, self._programs = links, xdp, programs
        self._fallback, self._modes = fallback, modes

    def update(self, rows: Sequence[Attachment]) -> Errors:
        return each(rows, key=lambda row: row.key, call=self._attach)

    def delete(self, rows: Sequence[Attachment]) -> Errors:
        return each(rows, key=lambda row: row.key, call=lambda row: self._detach(row.device, row.hook))

    def prune(self, rows: Sequence[Attachment]) -> None:
        keep = {row.key for row in rows}
        found = [(each.device, each.direction.value) for each in self._links.attached()]
        found += [(each.device, XDP) for each in self._xdp.attached()]
        for device, hook in found:
            if (device, hook) not in keep:
                self._detach(device, hook)

    def _attach(self, row: Attachment) -> None:
        program = self._programs[row.program]
        if row.hook != XDP:
            self._links.attach(row.device, row.ifindex, Direction(row.hook), program)
            return
        modes = {XdpMode.NATIVE: program, XdpMode.GENERIC: self._programs[row.program + IN_THE_STACK]}
        try:
            mode = self._xdp.attach(row.device, row.ifindex, modes, fallback=self._fallback)
        except Exception:
            self._modes.delete(row.device)
            raise
        self._modes.upsert(XdpDevice(device=row.device, ifindex=row.ifindex, mode=mode.value))

    def _detach(self, device: str, hook: str) -> None:
        if hook != XDP:
            self._links.detach(device, Direction(hook))
            return
        self._xdp.detach(device)
        self._modes.delete(device)


class NetdevOps:
    """Operations of the `netdevs` reconciler: rows of cilium_netdev."""

    def __init__(self, port: BpfMap, xdp: XdpLinks) -> None:
        self._port, self._xdp = port, xdp

    def update(self, rows: Sequence[NetdevEntry]) -> Errors:
        return update_rows(self._port, rows, keys=_keys, values=self._values, name=lambda row: row.ifindex)

    def delete(self, rows: Sequence[NetdevEntry]) -> Errors:
        return delete_rows(self._port, rows, keys=_keys, name=lambda row: row.ifindex)

    def prune(self, rows: Sequence[NetdevEntry]) -> None:
        prune(self._port, _keys(rows))

    def _values(self, rows: Sequence[NetdevEntry]) -> Any:
        values = np.zeros(len(rows), dtype=NETDEV)
        values["masquerade4"] = addresses_array(row.masquerade4 for row in rows)
        values["masquerade6"] = addresses_array(row.masquerade6 for row in rows)
        values["flags"] = [self._xdp.flags(row.ifindex, row.kind) for row in rows]
        for number, row in enumerate(rows):
            values[number]["mac"] = list(mac_bytes(row.mac))
        return values


def _keys(rows: Sequence[NetdevEntry]) -> Any:
    return np.array([row.ifindex for row in rows], dtype=np.uint32)
