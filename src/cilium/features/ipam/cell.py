"""Wires cluster-pool IPAM, the operator's half: CIDRs for nodes."""

from __future__ import annotations

from collections.abc import Sequence

from cilium.features.ipam.compute import NodeCIDRDecisions
from cilium.features.ipam.ops import NodeCIDROps, Writes
from cilium.features.ipam.pools import Pool
from cilium.features.ipam.rows import NodeCIDRs
from cilium.state import Derivation, Reconciler, Table
from cilium.state.cell import Cell
from cilium.tables.kubernetes import CiliumNode


def build(*, pools: Sequence[Pool], writes: Writes, cilium_nodes: Table[str, CiliumNode]) -> Cell:
    decisions: Table[str, NodeCIDRs] = Table("node-cidrs", key=lambda row: row.node)
    return Cell(
        name="ipam",
        derivations=(
            Derivation(
                "node-cidrs",
                inputs={"cilium-nodes": cilium_nodes},
                outputs={"node-cidrs": decisions.writer("ipam")},
                compute=NodeCIDRDecisions(pools).compute,
            ),
        ),
        reconcilers=(Reconciler("node-cidrs", table=decisions, operations=NodeCIDROps(writes)),),
    )
