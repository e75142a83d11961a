"""A lab's state on disk: where it lives, what was decided when it was made, who holds its lock.

In: the lab's name. Out: paths below /run/kubelab/<name> (a tmpfs of the lab's own), the recorded state, locks.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from kubelab.lab.errors import LabError
from kubelab.lab.options import LabOptions
from kubelab.underlay import syscalls
from kubelab.underlay.addresses import Plan
from kubelab.underlay.node import NodeSpace

ROOT = Path("/run/kubelab")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?")


Link = tuple[str, str]
"""Two ends, in a fixed order."""


def node_processes(node: str) -> tuple[str, str]:
    """Names of the daemons that a node may have."""
    return f"kubelet-{node}", f"containerd-{node}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """One node, in the lab from the moment before it is built until it is removed."""

    name: str
    number: int  # from 1: its place in the address plan
    zone: str
    stopped: bool = False  # on purpose: nothing of it runs

    @classmethod
    def of(cls, number: int, options: LabOptions) -> Self:
        return cls(name=f"node{number}", number=number, zone=options.zone(number))


@dataclass(frozen=True, slots=True, kw_only=True)
class LabState:
    """What ``up`` decided and became of it; ``complete`` once everything stands."""

    name: str
    index: int
    options: LabOptions
    nodes: tuple[NodeRecord, ...] = ()
    pids: dict[str, tuple[int, int]]  # process name -> pid, start time
    cuts: tuple[Link, ...] = ()
    complete: bool = False

    @property
    def plan(self) -> Plan:
        return Plan(self.index, self.options.families)

    def node(self, name: str) -> NodeRecord:
        """Raises LabError naming the nodes that there are."""
        for record in self.nodes:
            if record.name == name:
                return record
        raise LabError(f"node {name}: lab {self.name} has {', '.join(record.name for record in self.nodes) or 'none'}")

    def with_node(self, record: NodeRecord) -> LabState:
        """Added, or in the place of the one of this name."""
        others = tuple(other for other in self.nodes if other.name != record.name)
        return replace(self, nodes=tuple(sorted((*others, record), key=lambda one: one.number)))

    def without_node(self, name: str) -> LabState:
        """Nor its daemons, nor what was cut from it."""
        return replace(
            self,
            nodes=tuple(record for record in self.nodes if record.name != name),
            pids={process: pid for process, pid in self.pids.items() if process not in node_processes(name)},
            cuts=tuple(cut for cut in self.cuts if name not in cut),
        )

    def with_pid(self, process: str, record: tuple[int, int]) -> LabState:
        return replace(self, pids={**self.pids, process: record})

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "options": self.options.as_json()}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> LabState:
        """Raises KeyError, TypeError, ValueError, LabError."""
        parts = {
            "options": LabOptions.from_json(raw["options"]),
            "nodes": tuple(NodeRecord(**record) for record in raw["nodes"]),
            "pids": {name: (pid, start) for name, (pid, start) in raw["pids"].items()},
            "cuts": tuple((one, other) for one, other in raw["cuts"]),
        }
        return cls(**{**raw, **parts})


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
    def images(self) -> Path:
        """The lab's copy of what its user adds to the registry of stand-ins."""
        return self.directory / "images.yaml"

    @property
    def namespaces(self) -> Path:
        return self.directory / "ns"

    def space(self, node: str) -> NodeSpace:
        return NodeSpace(self.name, node, self.directory / "nodes" / node)

    def read(self) -> LabState | None:
        """The recorded state, None when there is none. Raises LabError when it is damaged."""
        try:
            return LabState.from_json(json.loads(self.state.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError, LabError) as error:
            raise LabError(f"lab {self.name}: {self.state} is damaged ({error}): take the lab down") from error

    def require(self) -> LabState:
        """The recorded state. Raises LabError when there is none."""
        found = self.read()
        if found is None:
            raise LabError(f"lab {self.name} is not up")
        return found

    def write(self, state: LabState) -> None:
        fresh = self.state.with_suffix(".new")
        fresh.write_text(json.dumps(state.as_json(), indent=2))
        fresh.rename(self.state)

    def change(self, change: Callable[[LabState], LabState]) -> LabState:
        """Reads, changes and writes the recorded state while nobody else does. Raises LabError."""
        with lock(f"{self.name}/state", timeout=10):
            changed = change(self.require())
            self.write(changed)
            return changed

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
    """One change of a lab at a time. Raises LabError when another process has it for ``timeout`` seconds.

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
                    raise LabError(f"lab {name}: another command is changing it: wait for it to end") from None
                time.sleep(0.01)
        yield
