"""A lab's state on disk: where it lives, what was decided when it was made, who holds its lock.

In: the lab's name. Out: paths below /run/kubelab/<name> (a tmpfs of the lab's own), the recorded state, locks.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from kubelab.lab.errors import LabError
from kubelab.underlay import syscalls
from kubelab.underlay.addresses import Plan
from kubelab.underlay.node import NodeSpace

ROOT = Path("/run/kubelab")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabState:
    """What ``up`` decided; ``complete`` once everything stands."""

    name: str
    index: int
    nodes: int
    pids: dict[str, tuple[int, int]]  # process name -> pid, start time
    complete: bool = False

    @property
    def plan(self) -> Plan:
        return Plan(self.index)


@dataclass(frozen=True, slots=True)
class LabPaths:
    """Files of one lab."""

    name: str

    @property
    def directory(self) -> Path:
        return ROOT / self.name

    @property
    def state(self) -> Path:
        return self.directory / "lab.json"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def control_plane(self) -> Path:
        return self.directory / "control-plane"

    @property
    def namespaces(self) -> Path:
        return self.directory / "ns"

    def space(self, node: str) -> NodeSpace:
        return NodeSpace(self.name, node, self.directory / "nodes" / node)

    def read(self) -> LabState | None:
        """The recorded state, None when there is none. Raises LabError when it is damaged."""
        try:
            raw = json.loads(self.state.read_text())
            return LabState(**{**raw, "pids": {name: (pid, start) for name, (pid, start) in raw["pids"].items()}})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise LabError(f"lab {self.name}: {self.state} is damaged ({error}): take the lab down") from error

    def write(self, state: LabState) -> None:
        fresh = self.state.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(state), indent=2))
        fresh.rename(self.state)

    def mount(self) -> None:
        """The lab's tmpfs; private, because namespaces are pinned below it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        syscalls.mount("kubelab", str(self.directory), "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
        syscalls.mount(None, str(self.directory), None, syscalls.MS_PRIVATE)
        for path in (self.logs, self.namespaces, self.control_plane):
            path.mkdir(parents=True, exist_ok=True)

    def unmount(self) -> None:
        """Everything of the lab on disk goes; what is not there is no error."""
        with suppress(OSError):
            while True:  # a half-finished lab may have been mounted over
                syscalls.umount(str(self.directory))
        with suppress(FileNotFoundError):
            for path in self.directory.iterdir():
                raise LabError(f"lab {self.name}: {path} is not ours: move it away and take the lab down again")
            self.directory.rmdir()
        with suppress(OSError):
            ROOT.rmdir()


def paths(name: str) -> LabPaths:
    """Raises LabError for a name that cannot be used."""
    if not _NAME.fullmatch(name):
        raise LabError(f"lab name {name!r}: use at most 30 of a-z, 0-9 and - (not first or last)")
    return LabPaths(name)


def others(name: str) -> list[int]:
    """Subnet indexes of the other labs on this machine."""
    found = []
    for path in ROOT.glob("*/lab.json"):
        with suppress(LabError):
            state = LabPaths(path.parent.name).read()
            if state is not None and state.name != name:
                found.append(state.index)
    return found


@contextmanager
def lock(name: str, *, timeout: float = 0.0) -> Iterator[None]:
    """One ``up`` or ``down`` per lab at a time. Raises LabError when another process has it for ``timeout`` seconds.

    The lock is an abstract unix socket (unix(7)): it needs no file and goes with its process.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as holder:
        deadline = time.monotonic() + timeout
        while True:
            try:
                holder.bind(f"\0kubelab/{name}")
                break
            except OSError:
                if time.monotonic() >= deadline:
                    raise LabError(f"lab {name}: another up or down of it is running: wait for it to end") from None
                time.sleep(0.01)
        yield
