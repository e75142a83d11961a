"""Programs on devices by clsact filters, for kernels before 6.6, which have no tcx links.

Ours bear a fixed handle and priority; replacing a filter in place is atomic (cls_bpf swaps the program under RCU).
Filters need no pins: they live as long as their device.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from cilium.datapath.errors import KernelError, raise_for
from cilium.datapath.hooks import Attachment, Direction
from cilium.datapath.libbpf.library import captured_log, ffi, library
from cilium.datapath.libbpf.objects import Program

HANDLE = 0xC111
PRIORITY = 1
_REPLACE = 1  # BPF_TC_F_REPLACE
_POINTS = {Direction.INGRESS: 1, Direction.EGRESS: 2}  # enum bpf_tc_attach_point


class ClsactLinks:
    """`DeviceLinks` by clsact."""

    def attach(self, device: str, ifindex: int, direction: Direction, program: Program) -> bool:
        """See DeviceLinks."""
        if self._query(ifindex, direction) == program.id:
            return False
        with captured_log():
            result = library().bpf_tc_hook_create(_hook(ifindex, direction))
            if result < 0 and result != -errno.EEXIST:
                raise_for(f"create the clsact qdisc of {device}", -result)
            options = _options(prog_fd=program.fd, flags=_REPLACE)
            result = library().bpf_tc_attach(_hook(ifindex, direction), options)
        if result < 0:
            raise_for(f"attach {program.name} to {device} {direction}", -result)
        return True

    def detach(self, device: str, direction: Direction) -> None:
        """See DeviceLinks. The qdisc stays: others may use it."""
        try:
            ifindex = socket.if_nametoindex(device)
        except OSError:
            return
        with captured_log():
            result = library().bpf_tc_detach(_hook(ifindex, direction), _options())
        if result < 0 and result not in (-errno.ENOENT, -errno.EINVAL, -errno.ENODEV):
            raise_for(f"detach from {device} {direction}", -result)

    def attached(self) -> list[Attachment]:
        """See DeviceLinks."""
        return [
            Attachment(device, direction, ifindex, found)
            for ifindex, device in socket.if_nameindex()
            for direction in Direction
            if (found := self._query(ifindex, direction))
        ]

    async def run(self) -> None:
        """See DeviceLinks. Nothing is left for later."""

    def _query(self, ifindex: int, direction: Direction) -> int:
        """The id of our program there, 0 for none."""
        options = _options()
        with captured_log():
            result = library().bpf_tc_query(_hook(ifindex, direction), options)
        # Without a clsact qdisc the kernel answers EINVAL.
        if result < 0 and result not in (-errno.ENOENT, -errno.EINVAL, -errno.ENODEV):
            raise KernelError(f"query the filters of interface {ifindex}", -result)
        return int(options.prog_id) if result == 0 else 0


def _hook(ifindex: int, direction: Direction) -> Any:
    hook = ffi.new("struct bpf_tc_hook *")
    hook.sz, hook.ifindex, hook.attach_point = ffi.sizeof("struct bpf_tc_hook"), ifindex, _POINTS[direction]
    return hook


def _options(*, prog_fd: int = 0, flags: int = 0) -> Any:
    options = ffi.new("struct bpf_tc_opts *")
    options.sz, options.handle, options.priority = ffi.sizeof("struct bpf_tc_opts"), HANDLE, PRIORITY
    options.prog_fd, options.flags = prog_fd, flags
    return options
