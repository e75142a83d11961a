"""The image of a sandbox: one program that does nothing, so that the sandbox's namespaces have somebody in them.

In: the machine's kind. Out: the image's contents. The program is short enough to be written as machine code: no node
needs a compiler. It ignores SIGCHLD, so that the kernel reaps what containers leave it, and waits for ever.
"""

from __future__ import annotations

import platform
import struct

from kubelab.cri.layout import Contents

IMAGE = "kubelab.io/pause:1"

_ADDRESS = 0x400000
_IGNORE = struct.pack("<4Q", 1, 0, 0, 0)  # struct sigaction of the kernel: SIG_IGN, flags, restorer, mask
_EM = {"x86_64": 62, "aarch64": 183}

CODE = {
    "x86_64": bytes.fromhex(
        "bf11000000"  # mov $17, %edi             SIGCHLD
        "488d351c000000"  # lea action(%rip), %rsi
        "31d2"  # xor %edx, %edx
        "41ba08000000"  # mov $8, %r10d           bytes of a mask
        "b80d000000"  # mov $13, %eax             rt_sigaction
        "0f05"  # syscall
        "b822000000"  # again: mov $34, %eax      pause
        "0f05"  # syscall
        "ebf7"  # jmp again
        "0f1f4000"  # nop, to a multiple of 8
    )
    + _IGNORE,
    "aarch64": bytes.fromhex(
        "200280d2"  # mov x0, #17                 SIGCHLD
        "a1010010"  # adr x1, action
        "020080d2"  # mov x2, #0
        "030180d2"  # mov x3, #8                  bytes of a mask
        "c81080d2"  # mov x8, #134                rt_sigaction
        "010000d4"  # svc #0
        "000080d2010080d2020080d2030080d2"  # again: mov x0..x3, #0
        "280980d2"  # mov x8, #73                 ppoll of nothing
        "010000d4"  # svc #0
        "faffff17"  # b again
        "1f2003d5"  # nop, to a multiple of 8
    )
    + _IGNORE,
}
"""By machine; the names are those of uname(2)."""


def program(machine: str) -> bytes:
    """A static executable (elf(5)). Raises KeyError for a machine that it was not written for."""
    code, header, segment = CODE[machine], 64, 56
    start = header + segment
    size = start + len(code)
    elf = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    elf += struct.pack("<2HI3QI6H", 2, _EM[machine], 1, _ADDRESS + start, header, 0, 0, header, segment, 1, 0, 0, 0)
    return elf + struct.pack("<2I6Q", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, 4096) + code


def contents() -> Contents:
    """The image for this machine. Raises KeyError."""
    return Contents(files={"pause": program(platform.machine())}, entrypoint=["/pause"])
