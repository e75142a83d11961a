"""The life of nodes: who was not heard from is not trusted, who is gone leaves no pods behind.

In: nodes, their leases, pods. Out: condition Ready=Unknown, taints, pods marked not ready on nodes that cease to be,
pods of deleted nodes removed, and ending pods of nodes that are out of service. Time passes by timers set for the
moment a heartbeat is overdue; nothing polls. Silence is measured here, from when a sign of life was seen: nodes' clocks
need not agree, and a suspended machine wakes up with all its nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from kubelab import timestamps
from kubelab.apiserver.errors import NotFound
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.store import Store
from kubelab.apiserver.watch import Change
from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.index import PodIndex
from kubelab.controllers.objects import Object

LEASES, LEASE_NAMESPACE = "leases.coordination.k8s.io", "kube-node-lease"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
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


def readiness(node: Object) -> str:
    """True, False, Unknown; "" before the first report."""
    return str((objects.condition(node, "Ready") or {}).get("status", ""))


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
        self._ready: set[str] = set()
        self._fresh: set[str] = set()

    def watches(self) -> Mapping[str, Mapper]:
        return {"nodes": objects.own_key, LEASES: self._of_lease, "pods": self._of_pod}

    def observe(self, resource: Resource, change: Change) -> None:
        if resource.key == "nodes" and change.type == "ADDED":
            self._fresh.add(change.entry.object["metadata"]["name"])
        super().observe(resource, change)

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
        if node is None or readiness(node) == "Unknown":
            yield "", name

    async def reconcile(self, key: Key) -> float | None:
        name = key[1]
        node = self.store.peek("nodes", name)
        if node is None:
            if self._seen.pop(name, None) is not None:
                await self.event(
                    _absent(name), "RemovingNode", f"Node {name} event: Removing Node {name} from Controller"
                )
            self._due.pop(name, None)
            await self._remove_pods(name, "node no longer exists")
            return None
        if self._clock() - self._due.pop(name, self._clock()) > OVERSLEPT:
            self._seen.pop(name, None)
        if name in self._fresh:
            self._fresh.discard(name)
            await self.event(node, "RegisteredNode", f"Node {name} event: Registered Node {name} in Controller")
        left = self._grace - self._silence(node)
        if left <= 0:
            node = await self._declare_silent(node)
        taints = wanted_taints(node, timestamps.seconds(self.now()))
        if taints != ((node.get("spec") or {}).get("taints") or []):
            await self.store.patch("nodes", name, {"spec": {"taints": taints or None}})
        # A kubelet that says its node is not ready goes on reporting pods: it is overruled once and not again.
        state, was_ready = readiness(node), name in self._ready
        if state == "Unknown" or (state == "False" and was_ready):
            await self._mark_pods(name)
        (self._ready.add if state == "True" else self._ready.discard)(name)
        if state != "True" and any(taint["key"] == OUT_OF_SERVICE for taint in taints):
            await self._remove_pods(name, "node is out of service", ending=True)
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
        await self.event(node, "NodeNotReady", f"Node {node['metadata']['name']} status is now: NodeNotReady")
        changed = {**node, "status": {**status, "conditions": conditions}}
        return await self.store.update("nodes", changed, subresource="status")

    async def _mark_pods(self, node: str) -> None:
        """Nobody can tell any more that these pods are ready."""
        for pod in self.pods.on(node):
            if not objects.is_ready(pod):
                continue
            status = pod["status"]
            new = {**(objects.condition(pod, "Ready") or {}), "status": "False", "reason": "NodeNotReady"}
            new.pop("message", None)
            conditions = objects.with_condition(status["conditions"], new, self.now())
            await self.store.update(
                "pods", {**pod, "status": {**status, "conditions": conditions}}, subresource="status"
            )
            await self.event(pod, "NodeNotReady", "Node is not ready", warning=True)

    async def _remove_pods(self, node: str, why: str, *, ending: bool = False) -> None:
        """The node will never report the end of these pods. `ending`: only those that were to end."""
        for pod in self.pods.on(node):
            if ending and not objects.is_deleting(pod):
                continue
            namespace, name = objects.key_of(pod)
            try:
                if not objects.is_finished(pod):
                    await self._fail(pod, why)
                await self.store.delete("pods", name, namespace=namespace, grace_seconds=0, uid=objects.uid_of(pod))
            except NotFound:
                continue

    async def _fail(self, pod: Object, why: str) -> None:
        """Who counts this pod shall know how it ended."""
        status = pod.get("status") or {}
        new = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByPodGC",
            "message": f"PodGC: {why}",
        }
        conditions = objects.with_condition(status.get("conditions") or (), new, self.now())
        failed = {**status, "phase": "Failed", "conditions": conditions}
        await self.store.update("pods", {**pod, "status": failed}, subresource="status")


def _absent(node: str) -> Object:
    """A node that is gone, as events name it."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "uid": node}}
