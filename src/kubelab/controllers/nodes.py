"""The life of nodes: who was not heard from is not trusted, who is gone leaves no pods behind.

In: nodes, their leases, pods. Out: condition Ready=Unknown, taints, pods marked not ready on silent nodes, pods of
deleted nodes removed. Time passes by timers set for the moment a heartbeat is overdue; nothing polls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from kubelab.apiserver.errors import NotFound
from kubelab.apiserver.store import Store
from kubelab.controllers import events, objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.objects import Object

LEASES, LEASE_NAMESPACE = "leases.coordination.k8s.io", "kube-node-lease"
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
SILENT_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


def heartbeat(node: Object, lease: Object | None) -> datetime:
    """The last sign of life: the lease's renewal, the Ready condition's heartbeat, or the node's creation."""
    ready = objects.condition(node, "Ready") or {}
    signs = [
        objects.parse_time(((lease or {}).get("spec") or {}).get("renewTime")),
        objects.parse_time(ready.get("lastHeartbeatTime")) if ready.get("status") != "Unknown" else None,
        objects.parse_time(node["metadata"]["creationTimestamp"]),
    ]
    return max(sign for sign in signs if sign is not None)


def wanted_taints(node: Object, now: str) -> list[Object]:
    """The node's taints with those that its Ready condition asks for."""
    taints: list[Object] = list((node.get("spec") or {}).get("taints") or ())
    status = (objects.condition(node, "Ready") or {}).get("status")
    present = {(taint["key"], taint["effect"]): taint for taint in taints}
    wanted = {"True": None, "Unknown": UNREACHABLE}.get(str(status), NOT_READY)
    kept = [taint for taint in taints if taint["key"] not in (NOT_READY, UNREACHABLE)]
    if wanted is None:
        return kept
    for effect in ("NoSchedule", "NoExecute"):
        taint = present.get((wanted, effect)) or {"key": wanted, "effect": effect}
        kept.append({"timeAdded": now, **taint} if effect == "NoExecute" else taint)
    return kept


class NodeController(Controller):
    name = "node-controller"

    def __init__(self, store: Store, *, now: Callable[[], datetime], grace: float = 100.0) -> None:
        """`grace`: seconds without a sign of life after which a node counts as silent."""
        super().__init__(store, now=now)
        self._grace = grace

    def watches(self) -> Mapping[str, Mapper]:
        return {"nodes": objects.own_key, LEASES: self._of_lease, "pods": self._of_pod}

    @staticmethod
    def _of_lease(lease: Object) -> Iterable[Key]:
        if lease["metadata"]["namespace"] == LEASE_NAMESPACE:
            yield "", lease["metadata"]["name"]

    def _of_pod(self, pod: Object) -> Iterable[Key]:
        """Pods matter on silent and on missing nodes only."""
        name = (pod.get("spec") or {}).get("nodeName")
        if not name:
            return
        node = self.store.peek("nodes", name)
        if node is None or (objects.condition(node, "Ready") or {}).get("status") == "Unknown":
            yield "", name

    async def reconcile(self, key: Key) -> float | None:
        name = key[1]
        node = self.store.peek("nodes", name)
        if node is None:
            await self._remove_pods(name)
            return None
        left: float | None = None
        lease = self.store.peek(LEASES, name, namespace=LEASE_NAMESPACE)
        age = (self.now() - heartbeat(node, lease)).total_seconds()
        if age < self._grace:
            left = self._grace - age
        else:
            node = await self._declare_silent(node)
        taints = wanted_taints(node, objects.timestamp(self.now()))
        if taints != ((node.get("spec") or {}).get("taints") or []):
            await self.store.patch("nodes", name, {"spec": {"taints": taints or None}})
        if (objects.condition(node, "Ready") or {}).get("status") == "Unknown":
            await self._mark_pods(name)
        return left

    async def _declare_silent(self, node: Object) -> Object:
        if (objects.condition(node, "Ready") or {}).get("status") == "Unknown":
            return node
        status = node.get("status") or {}
        conditions = list(status.get("conditions") or ())
        for kind in SILENT_CONDITIONS:
            if kind != "Ready" and objects.condition(node, kind) is None:
                continue
            old = objects.condition(node, kind) or {}
            new = {
                **{field: old[field] for field in ("lastHeartbeatTime",) if field in old},
                "type": kind,
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
            }
            conditions = objects.with_condition(conditions, new, self.now())
        await self._event(node, "NodeNotReady", f"Node {node['metadata']['name']} status is now: NodeNotReady")
        changed = {**node, "status": {**status, "conditions": conditions}}
        return await self.store.update("nodes", changed, subresource="status")

    async def _mark_pods(self, node: str) -> None:
        """Nobody can tell any more that these pods are ready."""
        for pod in self._pods(node):
            if not objects.is_ready(pod):
                continue
            status = pod["status"]
            new = {**(objects.condition(pod, "Ready") or {}), "status": "False", "reason": "NodeNotReady"}
            new["message"] = "Node is not ready"
            conditions = objects.with_condition(status["conditions"], new, self.now())
            await self.store.update(
                "pods", {**pod, "status": {**status, "conditions": conditions}}, subresource="status"
            )

    async def _remove_pods(self, node: str) -> None:
        """The node will never report the end of these pods."""
        for pod in self._pods(node):
            namespace, name = objects.key_of(pod)
            try:
                await self.store.delete("pods", name, namespace=namespace, grace_seconds=0, uid=objects.uid_of(pod))
            except NotFound:
                continue

    def _pods(self, node: str) -> list[Object]:
        return [pod for pod in self.store.peek_all("pods") if (pod.get("spec") or {}).get("nodeName") == node]

    async def _event(self, node: Object, reason: str, message: str) -> None:
        await events.record(self.store, node, reason=reason, message=message, component=self.name, now=self.now())
