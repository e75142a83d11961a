"""Decides which pod CIDRs every node gets (run by the operator). In: `cilium-nodes`. Out: `node-cidrs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cilium.features.ipam.pools import Pool, assign
from cilium.state import RowChanges, View
from cilium.tables.kubernetes import CiliumNode
from cilium.tables.types import IPNetwork


class NodeCIDRDecisions:
    """The derivation.

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
