"""The cgroup2 trees of labs and nodes: ``<cgroup2 mount>/kubelab/<lab>/<node>``.

In: names. Out: directories; removal ends every process inside. No controllers are enabled, so that inner cgroups may
hold processes and the machine's own limits stay what they are.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

KILL = "cgroup.kill"
SHOWN = 5
"""Processes that a complaint names."""


class NoCgroup2Error(Exception):
    """No cgroup2 hierarchy is mounted."""


class BusyError(OSError):
    """A cgroup could not be removed in time: SIGKILL does not end its processes."""

    def __init__(self, path: Path) -> None:
        pids = members(path)
        named = ", ".join(describe(pid) for pid in pids[:SHOWN]) or "no process that can be seen"
        more = f" and {len(pids) - SHOWN} more" if len(pids) > SHOWN else ""
        super().__init__(f"cgroup {path} cannot be removed, killed but still in it: {named}{more}")


def describe(pid: int) -> str:
    """``<pid> (<command>, state <letter>)``; D is sleep that no signal ends."""
    try:
        name, _, fields = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return f"{pid} (gone meanwhile)"
    return f"{pid} ({command[:100] or name}, state {fields.split()[0]})"


def mount_point() -> Path:
    """Where cgroup2 is mounted: /sys/fs/cgroup, or /sys/fs/cgroup/unified where v1 lives beside it."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, target, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(target)
    raise NoCgroup2Error("no cgroup2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")


def lab_path(lab: str) -> Path:
    return mount_point() / "kubelab" / lab


def node_path(lab: str, node: str) -> Path:
    return lab_path(lab) / node


def create(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)


def join(path: Path, pid: int = 0) -> None:
    """Moves a process (0: the caller) into the cgroup."""
    (path / "cgroup.procs").write_text(str(pid))


def members(path: Path) -> list[int]:
    """Processes in the cgroup itself; of no cgroup, none. Those of a PID namespace that we do not see read as 0."""
    try:
        return [int(pid) for pid in (path / "cgroup.procs").read_text().split() if pid != "0"]
    except OSError:
        return []


def cpu_nanoseconds(path: Path) -> int:
    """CPU time that the subtree has used; cgroup2 counts it without any controller. Of no cgroup, none."""
    try:
        text = (path / "cpu.stat").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1000 for line in text.splitlines() if line.startswith("usage_usec")), 0)


def resident_bytes(path: Path) -> int:
    """Memory of the subtree's processes, the sum of what is resident: pages they share count for each."""
    total, page = 0, os.sysconf("SC_PAGE_SIZE")
    for directory in _subtree(path):
        for pid in members(directory):
            with suppress(OSError, IndexError, ValueError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
    return total


def kill(path: Path) -> None:
    """SIGKILL to everything in the subtree. Whoever enters afterwards lives: ``remove`` kills until nobody is left."""
    try:
        (path / KILL).write_text("1")
    except OSError:  # before Linux 5.14 there is none; or a cgroup on the way went meanwhile
        _kill_members(path)


def _kill_members(path: Path) -> None:
    """The same by pid. Frozen meanwhile, because a process that forks would always be one child ahead."""
    _freeze(path, frozen=True)
    killed: set[int] = set()
    while fresh := {pid for directory in _subtree(path) for pid in members(directory)} - killed:
        for pid in fresh:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= fresh
    _freeze(path, frozen=False)


def _freeze(path: Path, *, frozen: bool) -> None:
    with suppress(OSError):  # since Linux 5.2
        (path / "cgroup.freeze").write_text(str(int(frozen)))


def populated(path: Path) -> bool:
    """Whether any process lives in the subtree."""
    try:
        return "populated 1" in (path / "cgroup.events").read_text()
    except OSError:
        return False


def remove(path: Path, timeout: float = 5.0) -> None:
    """Kills what is inside and removes the subtree; absent is no error. Raises BusyError when somebody stays."""
    deadline = time.monotonic() + timeout
    pause = 0.005
    while True:
        # Every time: somebody who was about to enter when the others were killed is inside now.
        kill(path)
        busy = _remove_empty(path)
        if not path.exists():
            return
        if time.monotonic() > deadline:
            raise BusyError(busy or path)
        # Killed processes leave their cgroup only once the kernel has taken them down.
        time.sleep(pause)
        pause = min(pause * 2, 0.1)


def _remove_empty(path: Path) -> Path | None:
    """Removes what nobody is in, from the leaves; the first that is busy."""
    busy = None
    for directory in reversed(_subtree(path)):
        try:
            directory.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            busy = busy or directory
    return busy


def _subtree(path: Path) -> list[Path]:
    return [Path(directory) for directory, _, _ in os.walk(path)]


def remove_if_empty(path: Path) -> None:
    """Removes a cgroup that nobody uses any more; one that is used stays."""
    with suppress(OSError):
        path.rmdir()
