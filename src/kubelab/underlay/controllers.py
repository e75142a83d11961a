"""Controllers that limit what a node's containers use, wherever this machine has them.

In: a lab's or a node's name. Out: groups ``kubelab/<lab>/<node>`` in the hierarchies of cgroup v1, beside the node's
tree in cgroup2; or, where cgroup2 has the controllers, those enabled down to the node. A machine lends what it has
mounted or enabled itself: nothing is changed above ``kubelab``, and where nothing is lent, limits do nothing.
Sources: cgroups(7), Linux' admin-guide/cgroup-v1 and cgroup-v2.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kubelab.underlay import cgroups, syscalls

INSIDE = "/run/kubelab/cgroup"
"""In a node of a machine with cgroup v1: all hierarchies, laid out as machines do that have both versions."""

LIMITS = frozenset(("cpu", "memory", "pids"))
"""What containers are limited by."""

_SHARES = "8192"
"""Of CPU for all labs together. Whoever is in no group weighs 1024 alone: those that are limited must not starve."""

_CPUSET = ("cpuset.cpus", "cpuset.mems")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One of cgroup v1; several controllers may share it."""

    controllers: tuple[str, ...]  # or one "name=<name>"
    mount: Path

    @property
    def options(self) -> str:
        return ",".join(self.controllers)

    @property
    def directory(self) -> str:
        return self.options.removeprefix("name=")

    def group(self, lab: str, node: str = "") -> Path:
        return self.mount / "kubelab" / lab / node


def hierarchies(proc: Path = Path("/proc")) -> list[Hierarchy]:
    """Those that this machine has mounted so that groups can be made."""
    lines = (proc / "cgroups").read_text().splitlines()
    known = {line.split()[0] for line in lines if not line.startswith("#")}
    found: dict[str, Hierarchy] = {}
    for line in (proc / "self/mounts").read_text().splitlines():
        _, target, kind, options, *_ = line.split()
        controllers = tuple(word for word in options.split(",") if word in known or word.startswith("name="))
        if kind == "cgroup" and controllers and options.startswith("rw"):
            hierarchy = Hierarchy(controllers, Path(target))
            found.setdefault(hierarchy.options, hierarchy)
    return list(found.values())


def create(lab: str, node: str) -> None:
    """The node's groups in the hierarchies of cgroup v1."""
    for hierarchy in hierarchies():
        group = hierarchy.group(lab, node)
        cgroups.create(group)
        for part in (group.parents[1], group.parent, group):
            _take_over_cpus(part)
        with suppress(OSError):  # has it the controller of CPU?
            (group.parents[1] / "cpu.shares").write_text(_SHARES)


def _take_over_cpus(group: Path) -> None:
    """A group of cpuset has none of its own, and then takes no processes."""
    for name in _CPUSET:
        file = group / name
        if file.exists() and not file.read_text().strip():
            file.write_text((group.parent / name).read_text())


def join(lab: str, node: str) -> None:
    """Moves the calling process into them: a cgroup namespace that it makes then has them as roots."""
    for hierarchy in hierarchies():
        cgroups.join(hierarchy.group(lab, node))


def delegate(node: Path) -> None:
    """Enables the controllers of cgroup2 for the groups below a node's; it must have no processes of its own."""
    for group in (node.parents[1], node.parent, node):
        for controller in sorted(LIMITS & set((group / "cgroup.controllers").read_text().split())):
            with suppress(OSError):
                (group / "cgroup.subtree_control").write_text(f"+{controller}")


def mount(root: str) -> None:
    """Mounts the hierarchies below a node's root, in the namespaces of the node; without cgroup v1, nothing."""
    found, place = hierarchies(), Path(root + INSIDE)
    for hierarchy in found:
        target = place / hierarchy.directory
        target.mkdir(parents=True)
        syscalls.mount("cgroup", str(target), "cgroup", 0, hierarchy.options)
        for controller in hierarchy.controllers[1:] and hierarchy.controllers:
            (place / controller).symlink_to(hierarchy.directory)
    if found:
        (place / "unified").mkdir()
        syscalls.mount("cgroup2", str(place / "unified"), "cgroup2")


def lent(node: Path) -> frozenset[str]:
    """The controllers that groups below a node's have, whichever version they are of."""
    first = frozenset(name for hierarchy in hierarchies() for name in hierarchy.controllers)
    with suppress(OSError):
        return first | frozenset((node / "cgroup.subtree_control").read_text().split())
    return first


def remove(lab: str, node: str = "", timeout: float = 5.0) -> None:
    """A node's groups of cgroup v1, or all of a lab. Raises BusyError when a process in them does not end."""
    for hierarchy in hierarchies():
        group = hierarchy.group(lab, node)
        cgroups.remove(group, timeout=timeout)
        cgroups.remove_if_empty(group.parent)
