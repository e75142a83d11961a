"""NoExecute taints: pods that do not tolerate them leave, at once or when their patience ends.

In: nodes' taints, pods' tolerations. Out: deletions. Source: Kubernetes documentation, "Taints and Tolerations".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from kubelab.apiserver.errors import NotFound
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.store import Store
from kubelab.apiserver.watch import Change
from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.index import PodIndex
from kubelab.controllers.objects import Object
from kubelab.controllers.scheduling import placement

Since = Callable[[Object], datetime]
"""From when on a taint counts."""


def patience(pod: Object, node: Object, now: datetime, since: Since) -> float | None:
    """Seconds that the pod may stay on the node, 0 or less: it leaves; None: for ever."""
    tolerations = pod["spec"].get("tolerations") or ()
    left: list[float] = []
    for taint in placement.taints_of(node):
        if taint["effect"] != "NoExecute":
            continue
        matching = [entry for entry in tolerations if placement.tolerates(entry, taint)]
        if not matching:
            return 0.0
        limits = [entry["tolerationSeconds"] for entry in matching if entry.get("tolerationSeconds") is not None]
        passed = (now - since(taint)).total_seconds()
        left += [limit - passed for limit in limits]
    return min(left, default=None)


class EvictionController(Controller):
    name = "taint-eviction-controller"

    def __init__(self, store: Store, *, pods: PodIndex, now: Callable[[], datetime]) -> None:
        self._seen: dict[str, dict[tuple[str, str], datetime]] = {}
        """Node's uid -> taint -> when it was first seen: taints that users set bear no time."""
        self._leaving: set[str] = set()
        super().__init__(store, pods=pods, now=now)

    def watches(self) -> Mapping[str, Mapper]:
        return {"pods": objects.own_key, "nodes": self._of_node}

    def observe(self, resource: Resource, change: Change) -> None:
        if resource.key == "nodes":
            self._note(change.entry.object, gone=change.type == "DELETED")
        super().observe(resource, change)

    def resync(self) -> None:
        for node in self.store.peek_all("nodes"):
            self._note(node)
        super().resync()

    def _note(self, node: Object, *, gone: bool = False) -> None:
        """Remember from when on the node has its taints."""
        known = self._seen.pop(objects.uid_of(node), {})
        taints = () if gone else placement.taints_of(node)
        present = {_identity(taint) for taint in taints if taint["effect"] == "NoExecute"}
        if present:
            self._seen[objects.uid_of(node)] = {taint: known.get(taint, self.now()) for taint in present}

    def _of_node(self, node: Object) -> Iterable[Key]:
        """Every pod of a node that drives pods away; called with the old node too, so also when it ceases to."""
        if any(taint["effect"] == "NoExecute" for taint in placement.taints_of(node)):
            yield from (objects.key_of(pod) for pod in self.pods.on(node["metadata"]["name"]))

    def _since(self, node: Object) -> Since:
        known = self._seen.get(objects.uid_of(node), {})

        def since(taint: Object) -> datetime:
            return objects.parse_time(taint.get("timeAdded")) or known.get(_identity(taint)) or self.now()

        return since

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        pod = self.store.peek("pods", name, namespace=namespace)
        if pod is None or not objects.is_active(pod):
            if pod is not None:
                self._leaving.discard(objects.uid_of(pod))
            return None
        node = self.store.peek("nodes", (pod.get("spec") or {}).get("nodeName", ""))
        if node is None:
            return None
        left = patience(pod, node, self.now(), self._since(node))
        uid = objects.uid_of(pod)
        if left is None:
            if uid in self._leaving:
                self._leaving.discard(uid)
                await self.event(pod, "TaintManagerEviction", f"Cancelling deletion of Pod {namespace}/{name}")
            return None
        if left > 0:
            self._leaving.add(uid)
            return left
        self._leaving.discard(uid)
        await self.event(pod, "TaintManagerEviction", f"Marking for deletion Pod {namespace}/{name}")
        await self._mark(pod)
        try:
            await self.store.delete("pods", name, namespace=namespace, uid=objects.uid_of(pod))
        except NotFound:
            return None
        return None

    async def _mark(self, pod: Object) -> None:
        status = pod.get("status") or {}
        new = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
        }
        conditions = objects.with_condition(status.get("conditions") or (), new, self.now())
        await self.store.update("pods", {**pod, "status": {**status, "conditions": conditions}}, subresource="status")


def _identity(taint: Object) -> tuple[str, str]:
    return taint["key"], taint.get("value") or ""
