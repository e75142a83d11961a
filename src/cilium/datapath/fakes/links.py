"""Programs on devices, in memory: tc's and XDP's."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from cilium.datapath.errors import KernelError, XdpRefused
from cilium.datapath.generated.enums import NetdevFlags
from cilium.datapath.hooks import Attachment, Direction, XdpAttachment, XdpMode
from cilium.datapath.libbpf.objects import Program


class FakeDeviceLinks:
    """`DeviceLinks` in memory. `fail_next(n)`: the next n attachments fail; `programs`: what is attached where."""

    def __init__(self) -> None:
        self.programs: dict[tuple[str, Direction], tuple[int, Program]] = {}
        self._failing, self._error = 0, errno.EBUSY

    def fail_next(self, count: int = 1, error: int = errno.EBUSY) -> None:
        self._failing, self._error = count, error

    def attach(self, device: str, ifindex: int, direction: Direction, program: Program) -> bool:
        """See DeviceLinks."""
        if self._failing:
            self._failing -= 1
            raise KernelError(f"attach {program.name} to {device} {direction}", self._error)
        changed = self.programs.get((device, direction)) != (ifindex, program)
        self.programs[device, direction] = (ifindex, program)
        return changed

    def detach(self, device: str, direction: Direction) -> None:
        """See DeviceLinks."""
        self.programs.pop((device, direction), None)

    def attached(self) -> list[Attachment]:
        """See DeviceLinks. The program's descriptor stands for its id."""
        return [
            Attachment(device, direction, ifindex, program.fd)
            for (device, direction), (ifindex, program) in self.programs.items()
        ]

    async def run(self) -> None:
        """See DeviceLinks."""


class FakeXdpLinks:
    """`XdpLinks` in memory. `refusing`: devices without native mode; `taking`: those that take frames by redirect."""

    def __init__(self) -> None:
        self.programs: dict[str, tuple[int, Program, XdpMode]] = {}
        self.refusing: set[str] = set()
        self.taking: set[int] = set()

    def attach(
        self, device: str, ifindex: int, programs: Mapping[XdpMode, Program], *, fallback: bool = False
    ) -> XdpMode:
        """See XdpLinks."""
        if device in self.refusing and not fallback:
            raise XdpRefused(device, "its driver has no native XDP", "set loadBalancer.acceleration")
        mode = XdpMode.GENERIC if device in self.refusing else XdpMode.NATIVE
        self.programs[device] = (ifindex, programs[mode], mode)
        return mode

    def detach(self, device: str) -> None:
        """See XdpLinks."""
        self.programs.pop(device, None)

    def attached(self) -> list[XdpAttachment]:
        """See XdpLinks. The program's descriptor stands for its id."""
        return [XdpAttachment(device, ifindex, program.fd) for device, (ifindex, program, _) in self.programs.items()]

    def flags(self, ifindex: int, kind: str) -> NetdevFlags:
        """See XdpLinks."""
        return NetdevFlags.TAKES_FRAMES if ifindex in self.taking else NetdevFlags(0)
