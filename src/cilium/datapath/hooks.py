"""The ports for programs on network devices: what `links` (tcx) and `clsact` offer alike, and XDP (`xdp`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cilium.datapath.generated.enums import NetdevFlags
from cilium.datapath.libbpf.objects import Program


class Direction(StrEnum):
    """Of a device, as the kernel sees it: ingress is what arrives on the device."""

    INGRESS = "ingress"
    EGRESS = "egress"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A program at a hook of a device. `ifindex` 0: the device has gone, the link is a leftover."""

    device: str
    direction: Direction
    ifindex: int
    program_id: int


class DeviceLinks(Protocol):
    """tc programs on devices of this network namespace, one of ours per device and direction."""

    def attach(self, device: str, ifindex: int, direction: Direction, program: Program) -> bool:
        """Attach, or replace what is attached; no packet passes unseen. Returns whether anything changed.

        Raises KernelError (ENODEV: no such device), MissingPrivilege.
        """

    def detach(self, device: str, direction: Direction) -> None:
        """Remove ours; what is absent is no error."""

    def attached(self) -> list[Attachment]:
        """All of ours, also those whose device has gone."""

    async def run(self) -> None:
        """What is to be done in the background, until cancelled; attaching works without it."""


XDP = "xdp"
"""The hook's name beside those of Direction."""


class XdpMode(StrEnum):
    """Where a program runs: in the driver, or in the stack, before everything else there."""

    NATIVE = "native"
    GENERIC = "generic"


@dataclass(frozen=True, slots=True)
class XdpAttachment:
    """An XDP program on a device. `ifindex` 0: the device has gone, the link is a leftover."""

    device: str
    ifindex: int
    program_id: int


class XdpLinks(Protocol):
    """XDP programs on devices of this network namespace, one of ours per device."""

    def attach(
        self, device: str, ifindex: int, programs: Mapping[XdpMode, Program], *, fallback: bool = False
    ) -> XdpMode:
        """Attach, or replace what is attached, between two packets where the mode stays. `programs`: one for each mode;
        `fallback`: generic will do.

        Raises XdpRefused, which names device and remedy; MissingPrivilege.
        """

    def detach(self, device: str) -> None:
        """Remove ours; what is absent is no error."""

    def attached(self) -> list[XdpAttachment]:
        """All of ours, also those whose device has gone."""

    def flags(self, ifindex: int, kind: str) -> NetdevFlags:
        """What programs must know of a device of that kind (IFLA_INFO_KIND) to send there."""
