"""Wires the attachment of programs."""

from __future__ import annotations

from cilium.datapath.maps import BpfMap
from cilium.features.programs.compute import Attachments
from cilium.features.programs.ops import AttachmentOps, LinkPort, NetdevOps
from cilium.features.programs.rows import Attachment, NetdevEntry
from cilium.state import Derivation, Reconciler, Table
from cilium.state.cell import Cell
from cilium.tables.devices import Device
from cilium.tables.endpoints import Endpoint
from cilium.tables.types import EndpointId


def build(
    *,
    links: LinkPort,
    netdev_map: BpfMap,
    endpoints: Table[EndpointId, Endpoint],
    devices: Table[int, Device],
    attachments: Table[tuple[str, str], Attachment],
    netdevs: Table[int, NetdevEntry],
) -> Cell:
    return Cell(
        name="programs",
        derivations=(
            Derivation(
                "attachments",
                inputs={"endpoints": endpoints, "devices": devices},
                outputs={"attachments": attachments.writer("programs"), "netdevs": netdevs.writer("programs")},
                compute=Attachments().compute,
            ),
        ),
        reconcilers=(
            Reconciler("netdevs", table=netdevs, operations=NetdevOps(netdev_map)),
            Reconciler("attachments", table=attachments, operations=AttachmentOps(links)),
        ),
    )
