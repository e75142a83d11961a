"""Programs on a terminal: what a user sees, types, and how they change its size."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios
import time
from collections.abc import Mapping, Sequence

ROWS, COLUMNS = 31, 97

Step = tuple[str, "str | tuple[int, int]"]
"""What is waited for, behind what was seen before; and what is typed then, or the size that the terminal gets."""


def on_terminal(
    argv: Sequence[str], environment: Mapping[str, str], script: Sequence[Step], timeout: float = 20
) -> tuple[str, int]:
    """Runs a program on a terminal of 31 x 97 until it ends. (screen, exit code)"""
    pid, fd = pty.fork()
    if pid == 0:
        _resize(0, ROWS, COLUMNS)
        os.execve(argv[0], list(argv), environment)
    screen, seen, rest, deadline = b"", 0, list(script), time.monotonic() + timeout
    try:
        while time.monotonic() < deadline:
            if not select.select([fd], [], [], 0.5)[0]:
                continue
            try:
                screen += os.read(fd, 65536)
            except OSError:
                return screen.decode(errors="replace"), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            while rest and (place := screen.find(rest[0][0].encode(), seen)) >= 0:
                seen = place + len(rest[0][0])
                act = rest.pop(0)[1]
                if isinstance(act, str):
                    os.write(fd, act.encode())
                else:
                    _resize(fd, *act)
    finally:
        os.close(fd)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    raise AssertionError(f"{argv} did not end, waits for {rest}; the screen: {screen.decode(errors='replace')}")


def _resize(fd: int, rows: int, columns: int) -> None:
    """The kernel tells the program (SIGWINCH)."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
