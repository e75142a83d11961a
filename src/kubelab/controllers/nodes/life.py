"""The life of nodes: who was not heard from is not trusted, who is gone leaves no pods behind.

In: nodes, their leases, pods. Out: condition Ready=Unknown, taints, pods marked not ready on silent nodes, pods of
deleted nodes removed. Time passes by timers set for the moment a heartbeat is overdue; nothing polls. Silence is
measured here, from when a sign of life was seen: nodes' clocks need not agree, and a suspended machine wakes up with
all its nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from kubelab.apiserver.errors import NotFound
from kubelab.apiserver.store import Store
from kubelab.controllers import events, objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.index import PodIndex
from kubelab.controllers.objects import Object

LEASES, LEASE_NAMESPACE = "leases.coordination.k8s.io", "kube-node-lease"
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
OVERSLEPT = 5.0
"""Seconds after its time at which a look at a node proves that this process did not run: what nodes said meanwhile is
not read yet."""
SILENT_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


def sign_of_life(node: Object, lease: Object | None) -> tuple[str, str, str]:
    """Changes whenever the node's kubelet said something."""
    ready = objects.condition(node, "Ready") or {}
    renewed = str(((lease or {}).get("spec") or {}).get("renewTime", ""))
    return objects.uid_of(node), renewed, str(ready.get("lastHeartbeatTime", ""))


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

    def __init__(
        self,
        store: Store,
        *,
        pods: PodIndex,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        grace: float = 100.0,
    ) -> None:
        """`grace`: seconds of `clock` without a sign of life after which a node counts as silent."""
        super().__init__(store, pods=pods, now=now)
        self._clock, self._grace = clock, grace
        self._seen: dict[str, tuple[tuple[str, str, str], float]] = {}
        self._due: dict[str, float] = {}

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
            self._seen.pop(name, None)
            self._due.pop(name, None)
            await self._remove_pods(name)
            return None
        if self._clock() - self._due.pop(name, self._clock()) > OVERSLEPT:
            self._seen.pop(name, None)
        left = self._grace - self._silence(node)
        if left <= 0:
            node = await self._declare_silent(node)
        taints = wanted_taints(node, objects.timestamp(self.now()))
        if taints != ((node.get("spec") or {}).get("taints") or []):
            await self.store.patch("nodes", name, {"spec": {"taints": taints or None}})
        if (objects.condition(node, "Ready") or {}).get("status") == "Unknown":
            await self._mark_pods(name)
        if left <= 0:
            return None
        self._due[name] = self._clock() + left
        return left

    def _silence(self, node: Object) -> float:
        """Seconds since the last new sign of life; after a start of ours every node has just given one."""
        name, now = node["metadata"]["name"], self._clock()
        sign = sign_of_life(node, self.store.peek(LEASES, name, namespace=LEASE_NAMESPACE))
        known = self._seen.get(name)
        if known is None or known[0] != sign:
            known = self._seen[name] = sign, now
        return now - known[1]

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
