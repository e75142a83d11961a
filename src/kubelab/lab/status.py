"""What is known of a lab without asking its API server.

In: the recorded state. Out: which of its processes run, where its nodes are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kubelab.lab import processes
from kubelab.lab.daemons import server_url
from kubelab.lab.options import LabOptions
from kubelab.lab.state import LabPaths, Link, node_processes
from kubelab.underlay import cgroups, network


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node of a status."""

    name: str
    addresses: tuple[str, ...]
    zone: str
    kubelet: bool  # runs
    stopped: bool  # on purpose


@dataclass(frozen=True, slots=True)
class LabStatus:
    """A lab, or what is left of one (`present`), or nothing."""

    name: str
    present: bool = False
    complete: bool = False
    server: str = ""
    subnets: tuple[str, ...] = ()
    nodes: tuple[NodeState, ...] = ()
    processes: dict[str, bool] = field(default_factory=dict)
    options: LabOptions | None = None
    cuts: tuple[Link, ...] = ()

    @property
    def dead(self) -> list[str]:
        """Processes that should run and do not."""
        stopped = {process for node in self.nodes if node.stopped for process in node_processes(node.name)}
        return sorted(name for name, alive in self.processes.items() if not alive and name not in stopped)


def present(paths: LabPaths) -> bool:
    """Whether anything of the lab is on this machine."""
    return paths.directory.exists() or bool(network.pinned(paths.name)) or cgroups.lab_path(paths.name).exists()


def status(paths: LabPaths) -> LabStatus:
    """Raises LabError when the recorded state is damaged."""
    found = paths.read()
    if found is None:
        return LabStatus(paths.name, present=bool(network.pinned(paths.name)) or cgroups.lab_path(paths.name).exists())
    plan = found.plan
    running = {name: processes.alive(record) for name, record in found.pids.items()}
    nodes = tuple(
        NodeState(
            record.name,
            plan.node(record.number),
            record.zone,
            kubelet=running.get(f"kubelet-{record.name}", False),
            stopped=record.stopped,
        )
        for record in found.nodes
    )
    return LabStatus(
        paths.name,
        present=True,
        complete=found.complete,
        server=server_url(plan),
        subnets=tuple(map(str, plan.subnets)),
        nodes=nodes,
        processes=running,
        options=found.options,
        cuts=found.cuts,
    )
