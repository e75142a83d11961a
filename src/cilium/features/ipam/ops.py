"""Writes the operator's decisions into CiliumNodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cilium.features.ipam.rows import NodeCIDRs
from cilium.state.outcomes import each_async
from cilium.state.reconciler import Errors


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
