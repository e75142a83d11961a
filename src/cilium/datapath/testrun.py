"""BPF_PROG_TEST_RUN: give a program a packet and see what it does. In: bytes and a context. Out: verdict and bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cilium.datapath.libbpf import syscall
from cilium.datapath.libbpf.library import ffi

_SK_BUFF, _XDP = 192, 24  # sizeof(struct __sk_buff) and sizeof(struct xdp_md), include/uapi/linux/bpf.h
_ROOM = 1 << 16


@dataclass(frozen=True, slots=True)
class SkBuff:
    """The fields of `struct __sk_buff` that the kernel takes from a caller; others must be 0."""

    mark: int = 0
    priority: int = 0
    ifindex: int = 0
    ingress_ifindex: int = 0
    cb: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)

    def encode(self) -> bytes:
        """The struct, little-endian."""
        raw = bytearray(_SK_BUFF)
        struct.pack_into("<I", raw, 8, self.mark)
        struct.pack_into("<III", raw, 32, self.priority, self.ingress_ifindex, self.ifindex)
        struct.pack_into("<5I", raw, 48, *self.cb)
        return bytes(raw)

    @classmethod
    def decode(cls, raw: bytes) -> SkBuff:
        priority, ingress_ifindex, ifindex = struct.unpack_from("<III", raw, 32)
        return cls(
            mark=struct.unpack_from("<I", raw, 8)[0],
            priority=priority,
            ifindex=ifindex,
            ingress_ifindex=ingress_ifindex,
            cb=struct.unpack_from("<5I", raw, 48),
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """What the kernel takes of `struct xdp_md`: the frame's length, and the device that it arrives on."""

    length: int
    ifindex: int

    def encode(self) -> bytes:
        """The struct, little-endian: the first receive queue."""
        return struct.pack("<6I", 0, self.length, 0, self.ifindex, 0, 0)


@dataclass(frozen=True, slots=True)
class RunResult:
    """`retval` and `data`: what the program returned and left; `duration`: mean ns per run."""

    retval: int
    data: bytes
    duration: int
    context: SkBuff | None = None


def run_program(program_fd: int, data: bytes, *, context: SkBuff | Frame | None = None, repeat: int = 1) -> RunResult:
    """Run a program on one packet (at least the Ethernet header for tc; XDP takes a Frame). Raises KernelError.

    A context with an ifindex makes the packet arrive on that device of the caller's network namespace.
    """
    source = ffi.from_buffer(data)
    target = ffi.new("char[]", _ROOM)
    attr = ffi.new("struct attr_test_run *")
    attr.prog_fd, attr.repeat = program_fd, repeat
    attr.data_in, attr.data_size_in = syscall.address(source), len(data)
    attr.data_out, attr.data_size_out = syscall.address(target), _ROOM
    raw = ffi.new("char[]", context.encode() if context else b"")
    if context:
        attr.ctx_in = attr.ctx_out = syscall.address(raw)
        attr.ctx_size_in = attr.ctx_size_out = _SK_BUFF if isinstance(context, SkBuff) else _XDP
    syscall.test_run(attr)
    after = SkBuff.decode(bytes(ffi.buffer(raw, _SK_BUFF))) if isinstance(context, SkBuff) else None
    return RunResult(attr.retval, bytes(ffi.buffer(target, attr.data_size_out)), attr.duration, after)
