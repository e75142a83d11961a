"""Attaches programs and describes devices to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cilium.datapath.addresses import addresses_array, mac_bytes
from cilium.datapath.batches import delete_rows, prune, update_rows
from cilium.datapath.generated import NETDEV
from cilium.datapath.libbpf.objects import Program
from cilium.datapath.links import DeviceLinks, Direction
from cilium.datapath.maps import BpfMap
from cilium.features.programs.rows import Attachment, NetdevEntry
from cilium.state.outcomes import each
from cilium.state.reconciler import Errors


class AttachmentOps:
    """Operations of the `attachments` reconciler. A device that vanished took its link along: no error."""

    def __init__(self, *, links: DeviceLinks, programs: Mapping[str, Program]) -> None:
        self._links, self._programs = links, programs

    def update(self, rows: Sequence[Attachment]) -> Errors:
        return each(rows, key=lambda row: row.key, call=self._attach)

    def delete(self, rows: Sequence[Attachment]) -> Errors:
        return each(rows, key=lambda row: row.key, call=self._detach)

    def prune(self, rows: Sequence[Attachment]) -> None:
        keep = {row.key for row in rows}
        for found in self._links.attached():
            if (found.device, found.direction.value) not in keep:
                self._links.detach(found.device, found.direction)

    def _attach(self, row: Attachment) -> None:
        self._links.attach(row.device, row.ifindex, Direction(row.hook), self._programs[row.program])

    def _detach(self, row: Attachment) -> None:
        self._links.detach(row.device, Direction(row.hook))


class NetdevOps:
    """Operations of the `netdevs` reconciler: rows of cilium_netdev."""

    def __init__(self, port: BpfMap) -> None:
        self._port = port

    def update(self, rows: Sequence[NetdevEntry]) -> Errors:
        return update_rows(self._port, rows, keys=_keys, values=_values, name=lambda row: row.ifindex)

    def delete(self, rows: Sequence[NetdevEntry]) -> Errors:
        return delete_rows(self._port, rows, keys=_keys, name=lambda row: row.ifindex)

    def prune(self, rows: Sequence[NetdevEntry]) -> None:
        prune(self._port, _keys(rows))


def _values(rows: Sequence[NetdevEntry]) -> Any:
    values = np.zeros(len(rows), dtype=NETDEV)
    values["masquerade4"] = addresses_array(row.masquerade4 for row in rows)
    values["masquerade6"] = addresses_array(row.masquerade6 for row in rows)
    for number, row in enumerate(rows):
        values[number]["mac"] = list(mac_bytes(row.mac))
    return values


def _keys(rows: Sequence[NetdevEntry]) -> Any:
    return np.array([row.ifindex for row in rows], dtype=np.uint32)
