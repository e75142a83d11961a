"""Processes known by pid and start time, watched through pidfds: children and those adopted after a restart.

In: pids. Out: exit codes in the shell's way (128 + signal). Nothing polls.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

from kubelab.underlay import syscalls

UNKNOWN_EXIT = 137
"""Reported when nobody saw how a process ended, as Kubernetes does (ContainerStatusUnknown)."""


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which the process started (proc(5), field 22); None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def zombie_status(pid: int) -> int | None:
    """The wait status of a process that has ended and was not yet reaped (proc(5), field 52)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[49]) if fields[0] == "Z" else None


class Process:
    """A running process; ``close`` after ``wait``."""

    def __init__(self, pid: int, pidfd: int, started: int) -> None:
        self.pid = pid
        self.started = started
        self._pidfd = pidfd
        self._exit: int | None = None
        self._known = True
        self._collecting = asyncio.Lock()

    @classmethod
    def child(cls, pid: int) -> Process:
        """A child of ours, not yet waited for."""
        return cls(pid, os.pidfd_open(pid), start_time(pid) or 0)

    @classmethod
    def adopt(cls, pid: int, started: int) -> Process | None:
        """The process recorded earlier, if it still is the same one."""
        try:
            pidfd = os.pidfd_open(pid)
        except (ProcessLookupError, OSError):
            return None
        if start_time(pid) != started:
            os.close(pidfd)
            return None
        return cls(pid, pidfd, started)

    @property
    def exit_known(self) -> bool:
        """False when the process ended unseen and ``wait`` returned UNKNOWN_EXIT."""
        return self._known

    def executes(self, argv: list[str]) -> bool:
        """Whether this is its command line; a process that has ended has none."""
        with suppress(OSError):
            return Path(f"/proc/{self.pid}/cmdline").read_bytes() == b"".join(
                os.fsencode(word) + b"\0" for word in argv
            )
        return False

    def signal(self, number: int) -> None:
        """Sends a signal; a process already gone is no error."""
        if self._exit is not None:
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def heeds(self, number: int) -> bool:
        """Whether the signal does anything: the first process of a PID namespace gets no default action."""
        try:
            text = Path(f"/proc/{self.pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        fields = dict(line.split(":", 1) for line in text.splitlines())
        caught, ignored = (int(fields[name], 16) >> (number - 1) & 1 for name in ("SigCgt", "SigIgn"))
        first = len(numbers := fields["NSpid"].split()) > 1 and numbers[-1] == "1"
        return bool(caught) or not (first or ignored)

    async def wait(self) -> int:
        """The exit code, once the process has ended. May be awaited by several."""
        if self._exit is None:
            await readable(self._pidfd)
        async with self._collecting:
            if self._exit is None:
                self._exit = await self._collect()
                os.close(self._pidfd)
        return self._exit

    async def _collect(self) -> int:
        code = self._reap()
        if code is None:
            status = await self._adopted_status()
            self._known = status is not None
            code = os.waitstatus_to_exitcode(status) if status is not None else UNKNOWN_EXIT
        return code if code >= 0 else 128 - code

    def _reap(self) -> int | None:
        """The exit code of a child of ours, negative for a signal; None when it is not our child."""
        try:
            info = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        except ChildProcessError:
            return None
        assert info is not None, "waitid without WNOHANG always has something to tell"
        return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status

    async def _adopted_status(self) -> int | None:
        # Until its parent reaps it, /proc tells the status, afterwards the pidfd; in between there is a moment.
        for _ in range(100):
            status = zombie_status(self.pid)
            if status is None:
                status = syscalls.exit_status_by_pidfd(self._pidfd)
            if status is not None:
                return status
            await asyncio.sleep(0.01)
        return None


async def readable(fd: int) -> None:
    """Waits until a descriptor is readable; several tasks may wait for the same one (each on a duplicate)."""
    loop = asyncio.get_running_loop()
    copy = os.dup(fd)
    future: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        if not future.done():
            future.set_result(None)

    loop.add_reader(copy, ready)
    try:
        await future
    finally:
        loop.remove_reader(copy)
        os.close(copy)
