"""A container's control groups: one in the node's cgroup2, and one in each hierarchy of cgroup v1 that limits it.

In: what a container, and its pod as a whole, may use. Out: directories that its processes join, limits written in
them; how often the kernel killed there for want of memory. On a machine with cgroup v1 a container is only in the
groups of controllers that limit it: what it requests of CPU has a weight with cgroup2 alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kubelab.kubelet.config import Object
from kubelab.kubelet.limits import PERIOD, Limits
from kubelab.kubelet.runtime.contract import Notice
from kubelab.underlay import cgroups, controllers

ROOT = Path("/sys/fs/cgroup/kubepods")
CONTROLLERS = ("cpu", "memory")


@dataclass(frozen=True, slots=True)
class Groups:
    paths: tuple[Path, ...]  # cgroup2's first
    lacking: tuple[str, ...] = ()  # controllers that the machine does not lend, of those that are wanted


def create(uid: str, container: str, own: Limits, pod: Limits, *, root: Path = ROOT,
           first: Path = Path(controllers.INSIDE)) -> Groups:  # fmt: skip
    """Idempotent. Raises OSError when a limit is refused."""
    group = root / f"pod{uid}" / container
    cgroups.create(group)
    paths, lacking = [group], []
    second = _enable(group)
    for controller in CONTROLLERS:
        limited = controller in own.controllers | pod.controllers
        if controller in second:
            _write2(group.parent, controller, pod)
            _write2(group, controller, own)
        elif limited and (first / controller).is_dir():
            old = first / controller / root.name / f"pod{uid}" / container
            cgroups.create(old)
            _write1(old.parent, controller, pod)
            _write1(old, controller, own)
            paths.append(old)
        elif limited:
            lacking.append(controller)
    return Groups(tuple(paths), tuple(lacking))


def not_enforced(container: Object, controller: str) -> Notice:
    """Of a limit for which the machine lends nothing."""
    said = f"limits of {controller} of container {container['name']} do nothing: this machine lends no {controller} "
    return "Warning", "LimitsNotEnforced", said + "controller to its labs"


def limit_pod(uid: str, limits: Limits, *, root: Path = ROOT, first: Path = Path(controllers.INSIDE)) -> None:
    """Of a pod whose groups another runtime has made. Raises OSError when a limit is refused."""
    second = root / f"pod{uid}"
    for controller in limits.controllers:
        old = first / controller / root.name / f"pod{uid}"
        if (second / f"{controller}.max").exists():
            _write2(second, controller, limits)
        elif old.is_dir():
            _write1(old, controller, limits)


def _enable(group: Path) -> set[str]:
    """The controllers of cgroup2 that the group now has."""
    for parent in (group.parents[1], group.parent):
        with suppress(OSError):
            lent = set((parent / "cgroup.controllers").read_text().split())
            for controller in sorted(lent & set(CONTROLLERS)):
                (parent / "cgroup.subtree_control").write_text(f"+{controller}")
    try:
        return set((group / "cgroup.controllers").read_text().split())
    except OSError:
        return set()


def _write2(group: Path, controller: str, limits: Limits) -> None:
    if controller == "cpu":
        (group / "cpu.weight").write_text(str(limits.weight))
        (group / "cpu.max").write_text(f"{limits.quota or 'max'} {PERIOD}")
        return
    (group / "memory.max").write_text(str(limits.memory or "max"))
    (group / "memory.oom.group").write_text("1" if limits.memory else "0")  # the container ends, not one of many
    with suppress(OSError):  # without swap there is none
        (group / "memory.swap.max").write_text("0" if limits.memory else "max")


def _write1(group: Path, controller: str, limits: Limits) -> None:
    if controller == "cpu":
        (group / "cpu.shares").write_text(str(max(limits.shares, 1024)))
        (group / "cpu.cfs_period_us").write_text(str(PERIOD))
        (group / "cpu.cfs_quota_us").write_text(str(limits.quota or -1))
        return
    if limits.memory:
        (group / "memory.limit_in_bytes").write_text(str(limits.memory))
        with suppress(OSError):
            (group / "memory.memsw.limit_in_bytes").write_text(str(limits.memory))


def oom_kills(paths: Iterable[Path]) -> int:
    """How many processes of these groups the kernel has killed because memory was at its limit."""
    for path in paths:
        for name in ("memory.events", "memory.oom_control"):
            with suppress(OSError):
                for line in (path / name).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
    return 0


def pods(root: Path = ROOT) -> set[str]:
    """Uids of pods that have groups."""
    return {group.name.removeprefix("pod") for group in root.glob("pod*")}


def remove(uid: str, *, root: Path = ROOT, first: Path = Path(controllers.INSIDE)) -> None:
    """A pod's, and what is in them. Raises BusyError."""
    cgroups.remove(root / f"pod{uid}")
    for controller in CONTROLLERS:
        if (old := first / controller / root.name / f"pod{uid}").is_dir():
            cgroups.remove(old)
