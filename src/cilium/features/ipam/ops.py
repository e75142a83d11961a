"""Writes the operator's decisions into CiliumNodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cilium.features.ipam.pools import NodeCIDRs, Pool, assign
from cilium.state import RowChanges, View
from cilium.state.outcomes import each_async
from cilium.state.reconciler import Errors
from cilium.tables.kubernetes import CiliumNode
from cilium.tables.types import IPNetwork


class NodeCIDRDecisions:
    """The derivation from `cilium-nodes` to `node-cidrs`.

    A decision stands from the moment it is made: until the watch shows it, the node is already acting on it.
    """

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._pools = tuple(pools)
        self._decided: dict[str, tuple[Sequence[IPNetwork], Sequence[IPNetwork]]] = {}
        """By node: what it held when it was decided, and the decision."""

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        nodes: list[CiliumNode] = list(view.snapshots["cilium-nodes"])
        gone = [change.key for change in view.changes["cilium-nodes"] if change.new is None]
        decisions = assign(((node.name, self._held(node)) for node in nodes), self._pools)
        seen = {node.name: node.pod_cidrs for node in nodes}
        self._decided = {decision.node: (seen[decision.node], decision.cidrs) for decision in decisions}
        return {"node-cidrs": RowChanges(upserts=decisions, deletes=gone)}

    def _held(self, node: CiliumNode) -> Sequence[IPNetwork]:
        before, decided = self._decided.get(node.name, (None, ()))
        return decided if node.pod_cidrs == before else node.pod_cidrs


class Writes(Protocol):
    async def patch_node(self, name: str, body: Mapping[str, Any]) -> None:
        """Merge-patches a CiliumNode."""

    async def patch_node_status(self, name: str, body: Mapping[str, Any]) -> None: ...


class NodeCIDROps:
    """Operations of the `node-cidrs` reconciler."""

    def __init__(self, writes: Writes) -> None:
        self._writes = writes

    async def update(self, rows: Sequence[NodeCIDRs]) -> Errors:
        return await each_async(rows, key=lambda row: row.node, call=self._write)

    def delete(self, rows: Sequence[NodeCIDRs]) -> None:
        """The node is gone and its CIDRs with it."""

    def prune(self, rows: Sequence[NodeCIDRs]) -> None:
        """CIDRs live in the CiliumNodes themselves: nothing else bears our mark."""

    async def _write(self, row: NodeCIDRs) -> None:
        cidrs = [str(cidr) for cidr in row.cidrs]
        await self._writes.patch_node(row.node, {"spec": {"ipam": {"podCIDRs": cidrs}}})
        status = {"ipam": {"operator-status": {"error": row.error or None}}}
        await self._writes.patch_node_status(row.node, {"status": status})
