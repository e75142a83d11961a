"""The API objects that features write, by the verbs they know. In: bodies. Out: calls of the Kubernetes client."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from cilium.features.policy.conditions import REPORTED
from cilium.features.policy.node_status import Said
from cilium.sources.kubernetes.errors import ApiError
from cilium.sources.kubernetes.writes import Writes
from cilium.tables.rules import NodeReport

CILIUM = "/apis/cilium.io/v2"
NODES = f"{CILIUM}/ciliumnodes"
IDENTITIES = f"{CILIUM}/ciliumidentities"
POLICIES = {
    "CiliumNetworkPolicy": (CILIUM, "ciliumnetworkpolicies"),
    "CiliumClusterwideNetworkPolicy": (CILIUM, "ciliumclusterwidenetworkpolicies"),
    "ClusterNetworkPolicy": ("/apis/policy.networking.k8s.io/v1alpha2", "clusternetworkpolicies"),
}
"""API and collection by kind."""
TERMINATING = "it is being terminated"
"""In the words of the API server about a namespace that takes nothing new."""


def _endpoints(namespace: str) -> str:
    return f"{CILIUM}/namespaces/{namespace}/ciliumendpoints"


def _node_of(endpoint: dict[str, Any]) -> str:
    return str(((endpoint.get("status") or {}).get("networking") or {}).get("node") or "")


def _report(said: Any) -> NodeReport:
    """What cannot be read is not what anybody would say."""
    try:
        return msgspec.convert(said, NodeReport)
    except msgspec.ValidationError:
        return NodeReport(revision=-1, enforcing=False, ok=False)


class ObjectWrites:
    """Implements the `Writes` protocols of the features."""

    def __init__(self, writes: Writes) -> None:
        self._writes = writes

    # features/identity
    async def create_identity(self, body: Mapping[str, Any]) -> None:
        await self._writes.create(IDENTITIES, body)

    async def delete_identity(self, number: int, *, unused: Callable[[], bool]) -> bool:
        """Whether it was deleted: `unused` is asked after the object was read, and what changed since then is spared
        (ApiError 409).
        """
        found = await self._writes.find(IDENTITIES, str(number))
        if found is None or not unused():
            return False
        meta = found["metadata"]
        return await self._writes.delete(IDENTITIES, str(number), uid=meta["uid"], version=meta["resourceVersion"])

    # features/endpoint
    async def apply_endpoint(self, namespace: str, name: str, body: Any) -> None:
        await self._writes.ensure(_endpoints(namespace), name, body)

    async def delete_endpoint(self, namespace: str, name: str, *, node_ip: str = "") -> None:
        """With `node_ip` only if it is of that node: a pod that moved has the same name on its new one."""
        if not node_ip:
            await self._writes.delete(_endpoints(namespace), name)
            return
        found = await self._writes.find(_endpoints(namespace), name)
        if found is None or _node_of(found) != node_ip:
            return
        meta = found["metadata"]
        await self._writes.delete(_endpoints(namespace), name, uid=meta["uid"], version=meta["resourceVersion"])

    # features/node, features/ipam
    async def apply_node(self, name: str, body: Any) -> None:
        await self._writes.ensure(NODES, name, body)

    async def patch_node(self, name: str, body: Mapping[str, Any]) -> None:
        await self._writes.patch(NODES, name, body)

    async def patch_node_status(self, name: str, body: Mapping[str, Any]) -> None:
        await self._writes.patch_status(NODES, name, body)

    # features/policy
    async def node_exists(self, name: str) -> bool:
        return await self._writes.find(NODES, name) is not None

    async def patch_policy_status(self, kind: str, namespace: str, name: str, body: Mapping[str, Any]) -> None:
        within = f"namespaces/{namespace}/" if namespace else ""
        api, collection = POLICIES[kind]
        try:
            await self._writes.patch_status(f"{api}/{within}{collection}", name, body)
        except ApiError as error:
            if error.status != 404:  # what is gone has no status
                raise

    async def policy_nodes(self, node: str) -> dict[str, Said]:
        """What a node has said of every policy object, by `kind/namespace/name`."""
        found: dict[str, Said] = {}
        for kind in REPORTED:
            api, collection = POLICIES[kind]
            for item in await self._writes.list(f"{api}/{collection}"):
                said = ((item.get("status") or {}).get("nodes") or {}).get(node)
                if said is not None:
                    meta = item["metadata"]
                    found[f"{kind}/{meta.get('namespace', '')}/{meta['name']}"] = meta["uid"], _report(said)
        return found

    # features/services
    async def create_event(self, namespace: str, body: Mapping[str, Any]) -> None:
        """Once: whoever has told the same before has done it. A namespace that goes needs no more Events."""
        try:
            await self._writes.create(f"/api/v1/namespaces/{namespace}/events", body)
        except ApiError as error:
            going = error.status == 404 or (error.status == 403 and TERMINATING in error.message)
            if error.reason != "AlreadyExists" and not going:
                raise


class LeaseObject:
    """One Lease, for app.leader."""

    def __init__(self, writes: Writes, *, namespace: str, name: str) -> None:
        self._writes, self._name = writes, name
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"

    async def read(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self._writes.find(self._collection, self._name)
        return found

    async def write(self, lease: dict[str, Any] | None, spec: dict[str, Any]) -> bool:
        metadata: dict[str, Any] = {"name": self._name}
        if lease is not None:
            metadata["resourceVersion"] = lease["metadata"]["resourceVersion"]
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        try:
            if lease is None:
                await self._writes.create(self._collection, body)
            else:
                await self._writes.replace(self._collection, self._name, body)
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        return True


def identity_of_this_process() -> str:
    """Who holds a Lease: the pod's name if it has one."""
    return f"{os.environ.get('HOSTNAME') or os.uname().nodename}-{os.getpid()}"
