"""What a lab costs: CPU and memory of each of its components.

In: the lab's cgroups, two looks at them. Out: one row per component: control plane, world, kubelets, and containers by
name. Memory is the proportional set size: of pages that several have, each has its share, so that sums are true.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kubelab.lab import containerd, processes
from kubelab.lab.state import LabPaths
from kubelab.underlay import cgroups

TICKS = os.sysconf("SC_CLK_TCK")
NANOSECONDS = 1e9
KUBELET, SANDBOX = "kubelet", "sandbox"


@dataclass(frozen=True, slots=True)
class Usage:
    """One component: `cpu` in cores over the interval, `memory` in bytes."""

    component: str
    node: str  # empty: of the lab
    pod: str  # namespace/name; empty: none
    processes: int
    cpu: float
    memory: int


@dataclass(frozen=True, slots=True)
class _Group:
    component: str
    node: str
    pod: str
    pids: tuple[int, ...]


def sample(paths: LabPaths, pods: Iterable[tuple[str, str]], interval: float) -> list[Usage]:
    """Every component over `interval` seconds. `pods`: uid and namespace/name of those that the API knows.

    Raises LabError for a lab that is not up.
    """
    names = dict(pods)
    before = {pid: (start, cpu) for group in _groups(paths, names) for pid in group.pids
              if (start := processes.start_time(pid)) is not None and (cpu := _cpu(pid)) is not None}  # fmt: skip
    began = time.monotonic()
    time.sleep(interval)
    groups, passed = _groups(paths, names), time.monotonic() - began
    rows = []
    for group in groups:
        spent = sum(_spent(pid, before) for pid in group.pids) / passed
        memory = sum(map(_memory, group.pids))
        rows.append(Usage(group.component, group.node, group.pod, len(group.pids), spent, memory))
    return rows


def _spent(pid: int, before: dict[int, tuple[int, float]]) -> float:
    """CPU seconds since the first look; of a process that came in between, all it had."""
    now = _cpu(pid)
    if now is None:
        return 0.0
    started, cpu = before.get(pid, (None, 0.0))
    return now - cpu if started is None or started == processes.start_time(pid) else now


def _groups(paths: LabPaths, names: dict[str, str]) -> list[_Group]:
    state = paths.require()
    top = cgroups.lab_path(paths.name)
    nodes = {record.name for record in state.nodes}
    found = [
        _Group(path.name, "", "", _members(path))
        for path in sorted(top.glob("*"))
        if path.is_dir() and path.name not in nodes
    ]
    for node in sorted(nodes, key=lambda name: state.node(name).number):
        place = cgroups.node_path(paths.name, node)
        kubelet, _ = state.pids.get(f"kubelet-{node}", (0, 0))
        system = _members(place / "system")
        found.append(_Group(KUBELET, node, "", tuple(pid for pid in system if pid == kubelet)))
        found.append(_Group("system", node, "", tuple(pid for pid in system if pid != kubelet)))
        for pod in sorted((place / "kubepods").glob("pod*")):
            found += _containers(paths, node, pod, names)
        others = sorted(path for path in place.glob("*") if path.is_dir() and path.name not in ("system", "kubepods"))
        found += [_Group(path.name, node, "", _members(path)) for path in others]
    return [group for group in found if group.pids]


def _containers(paths: LabPaths, node: str, pod: Path, names: dict[str, str]) -> Iterator[_Group]:
    """Those of a pod; runc names its groups by ids, of which that of the sandbox is nobody's container."""
    uid = pod.name.removeprefix("pod")
    known = containerd.container_names(paths.space(node), uid)
    for group in sorted(path for path in pod.glob("*") if path.is_dir()):
        if pids := _members(group):
            component = known.get(group.name, SANDBOX if known else group.name)
            yield _Group(component, node, names.get(uid, uid), pids)


def _members(path: Path) -> tuple[int, ...]:
    return tuple(pid for directory, _, _ in os.walk(path) for pid in cgroups.members(Path(directory)))


def _cpu(pid: int) -> float | None:
    """Seconds that all threads of a process ran: by the scheduler's clock, where the kernel tells it."""
    try:
        tasks = [Path(f"/proc/{pid}/task/{task}/schedstat") for task in os.listdir(f"/proc/{pid}/task")]
        return sum(int(task.read_text().split()[0]) for task in tasks) / NANOSECONDS
    except FileNotFoundError:
        pass
    except OSError:
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / TICKS


def _memory(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
