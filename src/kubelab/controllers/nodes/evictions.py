"""NoExecute taints: pods that do not tolerate them leave, at once or when their patience ends.

In: nodes' taints, pods' tolerations. Out: deletions. Source: Kubernetes documentation, "Taints and Tolerations".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from kubelab.apiserver.errors import NotFound
from kubelab.controllers import events, objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.objects import Object
from kubelab.controllers.scheduling import placement


def patience(pod: Object, node: Object, now: datetime) -> float | None:
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
        since = objects.parse_time(taint.get("timeAdded")) or now
        left += [limit - (now - since).total_seconds() for limit in limits]
    return min(left, default=None)


class EvictionController(Controller):
    name = "taint-eviction-controller"

    def watches(self) -> Mapping[str, Mapper]:
        return {"pods": objects.own_key, "nodes": self._of_node}

    def _of_node(self, node: Object) -> Iterable[Key]:
        """Every pod of a node that drives pods away."""
        if any(taint["effect"] == "NoExecute" for taint in placement.taints_of(node)):
            name = node["metadata"]["name"]
            for pod in self.store.peek_all("pods"):
                if (pod.get("spec") or {}).get("nodeName") == name:
                    yield objects.key_of(pod)

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        pod = self.store.peek("pods", name, namespace=namespace)
        if pod is None or not objects.is_active(pod):
            return None
        node = self.store.peek("nodes", (pod.get("spec") or {}).get("nodeName", ""))
        if node is None:
            return None
        left = patience(pod, node, self.now())
        if left is None or left > 0:
            return left
        await events.record(
            self.store,
            pod,
            reason="TaintManagerEviction",
            message=f"Marking for deletion Pod {namespace}/{name}",
            component=self.name,
            now=self.now(),
        )
        try:
            await self.store.delete("pods", name, namespace=namespace, uid=objects.uid_of(pod))
        except NotFound:
            return None
        return None
