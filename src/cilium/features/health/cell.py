"""Wires health checking: whom to ask, and who asks.

In: `cilium-nodes`. Out: `health-targets`, `node-health`.
"""

from __future__ import annotations

from collections.abc import Iterable

from cilium.features.health.compute import HealthTargets
from cilium.features.health.prober import Ask, Prober
from cilium.features.health.rows import HealthTarget, NodeHealth
from cilium.state import Derivation, Table
from cilium.state.cell import Cell
from cilium.tables.kubernetes import CiliumNode


def build(
    *,
    endpoints: bool,
    families: Iterable[int],
    ask: Ask,
    cilium_nodes: Table[str, CiliumNode],
    targets: Table[tuple[str, str], HealthTarget],
    node_health: Table[tuple[str, str], NodeHealth],
) -> Cell:
    """`endpoints`: nodes' health endpoints are asked beside the nodes themselves."""
    prober = Prober(targets=targets, writer=node_health.writer("health"), ask=ask)
    return Cell(
        name="health",
        derivations=(
            Derivation(
                "health-targets",
                inputs={"cilium-nodes": cilium_nodes},
                outputs={"health-targets": targets.writer("health")},
                compute=HealthTargets(endpoints=endpoints, families=families).compute,
            ),
        ),
        tasks=(("health prober", prober.run),),
    )
