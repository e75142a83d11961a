"""Wires the attachment of programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cilium.datapath.hooks import DeviceLinks, XdpLinks
from cilium.datapath.libbpf.objects import Program
from cilium.datapath.maps import BpfMap
from cilium.features.programs.compute import Attachments
from cilium.features.programs.ops import AttachmentOps, NetdevOps
from cilium.features.programs.rows import Attachment, NetdevEntry, XdpDevice
from cilium.settings import Acceleration
from cilium.state import Derivation, Reconciler, RowStatus, Table
from cilium.state.cell import Cell
from cilium.tables.devices import Device
from cilium.tables.endpoints import Endpoint
from cilium.tables.types import EndpointId


@dataclass(frozen=True, kw_only=True)
class ProgramsCell:
    cell: Cell
    status: Table[tuple[str, str], RowStatus[tuple[str, str]]]
    """Of attachments, by (device, hook)."""


def build(
    *,
    links: DeviceLinks,
    xdp: XdpLinks,
    acceleration: Acceleration,
    programs: Mapping[str, Program],
    netdev_map: BpfMap,
    endpoints: Table[EndpointId, Endpoint],
    devices: Table[int, Device],
    attachments: Table[tuple[str, str], Attachment],
    netdevs: Table[int, NetdevEntry],
    xdp_devices: Table[str, XdpDevice],
) -> ProgramsCell:
    modes = xdp_devices.writer("programs")
    modes.ready()
    operations = AttachmentOps(
        links=links,
        xdp=xdp,
        programs=programs,
        fallback=acceleration is Acceleration.BEST_EFFORT,
        modes=modes,
    )
    attached = Reconciler("attachments", table=attachments, operations=operations)
    cell = Cell(
        name="programs",
        derivations=(
            Derivation(
                "attachments",
                inputs={"endpoints": endpoints, "devices": devices},
                outputs={"attachments": attachments.writer("programs"), "netdevs": netdevs.writer("programs")},
                compute=Attachments(accelerated=acceleration is not Acceleration.DISABLED).compute,
            ),
        ),
        reconcilers=(
            Reconciler("netdevs", table=netdevs, operations=NetdevOps(netdev_map, xdp)),
            attached,
        ),
    )
    return ProgramsCell(cell=cell, status=attached.status)
