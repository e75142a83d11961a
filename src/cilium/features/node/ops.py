"""Writes this node's routes into the kernel and its CiliumNode into the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from cilium.features.node.rows import NodeObject, Route
from cilium.state.outcomes import each_async
from cilium.state.reconciler import Errors


class RoutePort(Protocol):
    """Routes that bear our protocol number. Methods raise OSError."""

    async def replace(self, route: Route) -> None: ...
    async def remove(self, route: Route) -> None: ...
    async def destinations(self) -> Sequence[Any]:
        """Destinations of all routes that are ours."""


class RouteOps:
    """Operations of the `routes` reconciler."""

    def __init__(self, port: RoutePort) -> None:
        self._port = port

    async def update(self, rows: Sequence[Route]) -> Errors:
        return await each_async(rows, key=lambda row: row.destination, call=self._port.replace)

    async def delete(self, rows: Sequence[Route]) -> Errors:
        return await each_async(rows, key=lambda row: row.destination, call=self._port.remove)

    async def prune(self, rows: Sequence[Route]) -> None:
        keep = {row.destination for row in rows}
        for destination in await self._port.destinations():
            if destination not in keep:
                await self._port.remove(Route(destination=destination, device=""))


class Writes(Protocol):
    async def apply_node(self, name: str, body: Any) -> None: ...


class NodeObjectOps:
    """Operations of the `node-objects` reconciler. The object stays when the agent stops: the node is still there."""

    def __init__(self, writes: Writes) -> None:
        self._writes = writes

    async def update(self, rows: Sequence[NodeObject]) -> Errors:
        return await each_async(
            rows, key=lambda row: row.name, call=lambda row: self._writes.apply_node(row.name, node_body(row))
        )

    def delete(self, rows: Sequence[NodeObject]) -> None:
        """The node stays a node."""

    def prune(self, rows: Sequence[NodeObject]) -> None:
        """Other nodes' objects are theirs."""


def node_body(row: NodeObject) -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "ip": str(ip)} for ip in row.internal_ips]
    addresses += [{"type": "CiliumInternalIP", "ip": str(ip)} for ip in row.router_ips]
    spec: dict[str, Any] = {
        "addresses": addresses,
        "bootid": row.boot_id,
        "health": {f"ipv{ip.version}": str(ip) for ip in row.health_ips},
    }
    owner = {"name": row.name, "uid": row.node_uid}
    if row.pod_cidrs is not None:
        spec["ipam"] = {"podCIDRs": [str(cidr) for cidr in row.pod_cidrs]}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNode",
        "metadata": {
            "name": row.name,
            "labels": dict(row.labels),
            "annotations": {"ipam.cilium.io/mode": row.ipam_mode},
            **({"ownerReferences": [{"apiVersion": "v1", "kind": "Node", **owner}]} if row.node_uid else {}),
        },
        "spec": spec,
    }
