"""The project's own objects, as the features write them.

In: names and bodies. Out: CiliumNodes, CiliumEndpoints and CiliumIdentities in the API, and Leases for the operator.
"""

from __future__ import annotations

from typing import Any

from cilium.sources.kubernetes.errors import ApiError
from cilium.sources.kubernetes.writes import Writes

NODES = "/apis/cilium.io/v2/ciliumnodes"
IDENTITIES = "/apis/cilium.io/v2/ciliumidentities"
ENDPOINTS = "/apis/cilium.io/v2/ciliumendpoints"


class CiliumObjects:
    """Satisfies the `Writes` protocols of the features. Methods raise ApiError and Unreachable."""

    def __init__(self, writes: Writes) -> None:
        self._writes = writes

    async def create(self, collection: str, body: Any) -> Any:
        return await self._writes.create(collection, body)

    async def apply_node(self, name: str, body: Any) -> None:
        await self._writes.ensure(NODES, name, body)

    async def patch_node(self, name: str, body: Any) -> None:
        await self._writes.patch(NODES, name, body)

    async def patch_node_status(self, name: str, body: Any) -> None:
        await self._writes.patch_status(NODES, name, body)

    async def delete_node(self, name: str) -> bool:
        return await self._writes.delete(NODES, name)

    async def apply_endpoint(self, namespace: str, name: str, body: Any) -> None:
        await self._writes.ensure(_endpoints(namespace), name, body)

    async def delete_endpoint(self, namespace: str, name: str) -> None:
        await self._writes.delete(_endpoints(namespace), name)

    async def list_endpoints(self) -> list[tuple[str, str, str]]:
        """(namespace, name, node IP) of every CiliumEndpoint."""
        return [
            (
                item["metadata"]["namespace"],
                item["metadata"]["name"],
                ((item.get("status") or {}).get("networking") or {}).get("node") or "",
            )
            for item in await self._writes.list(ENDPOINTS)
        ]

    async def delete_identity(self, name: str) -> bool:
        return await self._writes.delete(IDENTITIES, name)


class Lease:
    """One Lease of coordination.k8s.io, as the operator's election wants it."""

    def __init__(self, writes: Writes, *, namespace: str, name: str) -> None:
        self._writes = writes
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._metadata = {"namespace": namespace, "name": name}

    async def read(self) -> dict[str, Any] | None:
        lease: dict[str, Any] | None = await self._writes.find(self._collection, self._metadata["name"])
        return lease

    async def write(self, lease: dict[str, Any] | None, spec: dict[str, Any]) -> bool:
        """Creates (lease None) or replaces at the lease's resourceVersion; False if somebody was faster."""
        head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        try:
            if lease is None:
                await self._writes.create(self._collection, head | {"metadata": self._metadata, "spec": spec})
            else:
                await self._writes.replace(self._collection, self._metadata["name"], {**head, **lease, "spec": spec})
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        return True


def _endpoints(namespace: str) -> str:
    return f"/apis/cilium.io/v2/namespaces/{namespace}/ciliumendpoints"
