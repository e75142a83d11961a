"""Wires the watch over ports of this node that lead elsewhere, and that somebody listens on."""

from __future__ import annotations

from cilium.features.node_ports.compute import NodePorts
from cilium.features.node_ports.rows import NodePort
from cilium.features.node_ports.watch import Look, Name, PortWatch
from cilium.state import Derivation, Table
from cilium.state.cell import Cell
from cilium.tables.problems import Problem, ProblemKey
from cilium.tables.services import Frontend, FrontendKey


def build(
    *,
    node: str,
    look: Look,
    name: Name,
    frontends: Table[FrontendKey, Frontend],
    node_ports: Table[tuple[int, str], NodePort],
    problems: Table[ProblemKey, Problem],
) -> Cell:
    writer = problems.writer("node-ports")
    watch = PortWatch(node=node, node_ports=node_ports, problems=writer, look=look, name=name)
    return Cell(
        name="node-ports",
        derivations=(
            Derivation(
                "node-ports",
                inputs={"frontends": frontends},
                outputs={"node-ports": node_ports.writer("node-ports")},
                compute=NodePorts().compute,
            ),
        ),
        tasks=(("node port watch", watch.run),),
    )
