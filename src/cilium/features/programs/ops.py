"""Attaches programs and describes devices to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from cilium.datapath.addresses import addresses_array, mac_bytes
from cilium.datapath.batches import delete_rows, prune, update_rows
from cilium.datapath.generated import NETDEV
from cilium.datapath.maps import BpfMap
from cilium.features.programs.rows import Attachment, NetdevEntry
from cilium.state.outcomes import each
from cilium.state.reconciler import Errors


class LinkPort(Protocol):
    """Pinned links. Methods raise OSError or a datapath error."""

    def attach(self, *, device: str, ifindex: int, hook: str, program: str) -> None:
        """Attaches, or replaces in place what is attached; idempotent."""

    def detach(self, *, device: str, hook: str) -> None:
        """Absence is no error."""

    def attached(self) -> Sequence[tuple[str, str]]:
        """(device, hook) of every pinned link of ours."""


class AttachmentOps:
    """Operations of the `attachments` reconciler. A device that vanished took its link along: no error."""

    def __init__(self, port: LinkPort) -> None:
        self._port = port

    def update(self, rows: Sequence[Attachment]) -> Errors:
        return each(rows, key=lambda row: row.key, call=self._attach)

    def delete(self, rows: Sequence[Attachment]) -> Errors:
        return each(
            rows,
            key=lambda row: row.key,
            call=lambda row: self._port.detach(device=row.device, hook=row.hook),
        )

    def prune(self, rows: Sequence[Attachment]) -> None:
        keep = {row.key for row in rows}
        for device, hook in self._port.attached():
            if (device, hook) not in keep:
                self._port.detach(device=device, hook=hook)

    def _attach(self, row: Attachment) -> None:
        self._port.attach(device=row.device, ifindex=row.ifindex, hook=row.hook, program=row.program)


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
