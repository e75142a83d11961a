"""Wires routes to the pods of every node, and this node's CiliumNode."""

from __future__ import annotations

from cilium.features.node.compute import Routes
from cilium.features.node.ops import NodeObjectOps, RouteOps, RoutePort, Writes
from cilium.features.node.rows import NodeObject, Route
from cilium.state import Derivation, Reconciler, Table
from cilium.state.cell import Cell
from cilium.tables.kubernetes import CiliumNode
from cilium.tables.nodes import NodeAddressing
from cilium.tables.types import IPNetwork


def build_publication(*, writes: Writes, node_objects: Table[str, NodeObject]) -> Cell:
    """Runs before the rest: in cluster-pool mode a node must be seen before it is given CIDRs."""
    return Cell(
        name="node publication",
        reconcilers=(Reconciler("node-objects", table=node_objects, operations=NodeObjectOps(writes)),),
    )


def build(
    *,
    node: str,
    tunnel: bool,
    direct: bool,
    tunnel_mtu: int,
    port: RoutePort,
    cilium_nodes: Table[str, CiliumNode],
    node_addressing: Table[str, NodeAddressing],
    routes: Table[IPNetwork, Route],
) -> Cell:
    return Cell(
        name="node",
        derivations=(
            Derivation(
                "routes",
                inputs={"cilium-nodes": cilium_nodes, "node-addressing": node_addressing},
                outputs={"routes": routes.writer("node")},
                compute=Routes(node=node, tunnel=tunnel, direct=direct, tunnel_mtu=tunnel_mtu).compute,
            ),
        ),
        reconcilers=(Reconciler("routes", table=routes, operations=RouteOps(port)),),
    )
