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


class NoCgroup2Error(Exception):
    """No cgroup2 hierarchy is mounted."""


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
    """Processes in the cgroup itself; of no cgroup, none."""
    try:
        return [int(pid) for pid in (path / "cgroup.procs").read_text().split()]
    except (FileNotFoundError, OSError):
        return []


def kill(path: Path) -> None:
    """SIGKILL to everything in the subtree (cgroup.kill; before Linux 5.14, member by member)."""
    with suppress(FileNotFoundError):
        try:
            (path / "cgroup.kill").write_text("1")
        except (PermissionError, FileNotFoundError):
            for directory in _subtree(path):
                for pid in members(directory):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def populated(path: Path) -> bool:
    """Whether any process lives in the subtree."""
    try:
        return "populated 1" in (path / "cgroup.events").read_text()
    except (FileNotFoundError, OSError):
        return False


def remove(path: Path, timeout: float = 5.0) -> None:
    """Kills what is inside and removes the subtree; absent is no error. Raises OSError when it stays busy."""
    kill(path)
    deadline = time.monotonic() + timeout
    while path.exists():
        try:
            for directory in reversed(_subtree(path)):
                with suppress(FileNotFoundError):
                    directory.rmdir()
        except OSError:
            # Killed processes leave their cgroup only once the kernel has taken them down.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _subtree(path: Path) -> list[Path]:
    return [Path(directory) for directory, _, _ in os.walk(path)]


def remove_if_empty(path: Path) -> None:
    """Removes a cgroup that nobody uses any more; one that is used stays."""
    with suppress(OSError):
        path.rmdir()
