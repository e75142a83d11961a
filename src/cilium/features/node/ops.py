"""Writes this node's routes into the kernel and its CiliumNode into the API."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from cilium.features.node.rows import NodeObject, Route


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

    async def update(self, rows: Sequence[Route]) -> list[Exception | None]:
        return [await attempt(self._port.replace(row)) for row in rows]

    async def delete(self, rows: Sequence[Route]) -> list[Exception | None]:
        return [await attempt(self._port.remove(row)) for row in rows]

    async def prune(self, rows: Iterable[Route]) -> None:
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

    async def update(self, rows: Sequence[NodeObject]) -> list[Exception | None]:
        return [await attempt(self._writes.apply_node(row.name, node_body(row))) for row in rows]

    async def delete(self, rows: Sequence[NodeObject]) -> list[Exception | None]:
        return [None] * len(rows)

    async def prune(self, rows: Iterable[NodeObject]) -> None: ...


async def attempt(call: Any) -> Exception | None:
    try:
        await call
    except Exception as error:
        return error
    return None


def node_body(row: NodeObject) -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "ip": str(ip)} for ip in row.internal_ips]
    addresses += [{"type": "CiliumInternalIP", "ip": str(ip)} for ip in row.router_ips]
    spec: dict[str, Any] = {
        "addresses": addresses,
        "bootid": row.boot_id,
        "health": {f"ipv{ip.version}": str(ip) for ip in row.health_ips},
    }
    if row.pod_cidrs is not None:
        spec["ipam"] = {"podCIDRs": [str(cidr) for cidr in row.pod_cidrs]}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNode",
        "metadata": {
            "name": row.name,
            "labels": dict(row.labels),
            "annotations": {"ipam.cilium.io/mode": row.ipam_mode},
        },
        "spec": spec,
    }
