"""The scheduler: finds a node for every pod that has none.

In: pods without a node, nodes, running pods. Out: bindings (spec.nodeName), condition PodScheduled, events. Nodes are
filtered by what the pod needs; among those left, the one with the fewest pods of the same owner, then the fewest pods.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from kubelab.apiserver.errors import NotFound
from kubelab.controllers import events, objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.objects import Object
from kubelab.controllers.scheduling import fit, placement

SCHEDULER = "default-scheduler"


def is_waiting(pod: Object) -> bool:
    spec = pod.get("spec") or {}
    mine = spec.get("schedulerName", SCHEDULER) == SCHEDULER
    return mine and not spec.get("nodeName") and not spec.get("schedulingGates") and objects.is_active(pod)


def why_not(pod: Object, node: Object, here: Sequence[Object], placed: Sequence[tuple[Object, Object]]) -> str | None:
    """What keeps the pod from the node; None if nothing does."""
    taint = placement.untolerated(pod["spec"].get("tolerations") or (), placement.taints_of(node))
    if taint is not None:
        if taint["key"] == placement.UNSCHEDULABLE_TAINT:
            return "node(s) were unschedulable"
        return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    if not placement.selects_node(pod["spec"], node):
        return "node(s) didn't match Pod's node affinity/selector"
    if fit.port_conflict(pod, here):
        return "node(s) didn't have free ports for the requested pod ports"
    return fit.insufficient(pod, node, here) or fit.breaks_affinity(pod, node, placed)


def choose(pod: Object, nodes: Iterable[Object], pods: Iterable[Object]) -> tuple[str | None, str]:
    """The best node's name, or None and the reason in words."""
    by_name = {node["metadata"]["name"]: node for node in nodes if not objects.is_deleting(node)}
    here: dict[str, list[Object]] = {name: [] for name in by_name}
    for other in pods:
        name = (other.get("spec") or {}).get("nodeName")
        if name in here and not objects.is_finished(other):
            here[name].append(other)
    placed = [(other, by_name[name]) for name, others in here.items() for other in others]
    reasons: Counter[str] = Counter()
    candidates = []
    owner = (objects.controller_of(pod) or {}).get("uid")
    for name, node in by_name.items():
        reason = why_not(pod, node, here[name], placed)
        if reason is not None:
            reasons[reason] += 1
            continue
        siblings = sum((objects.controller_of(other) or {}).get("uid") == owner for other in here[name]) if owner else 0
        candidates.append((siblings, len(here[name]), name))
    if candidates:
        return min(candidates)[2], ""
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return None, f"0/{len(by_name)} nodes are available" + (f": {listed}." if listed else ".")


class Scheduler(Controller):
    name = SCHEDULER

    def watches(self) -> Mapping[str, Mapper]:
        return {"pods": self._of_pod, "nodes": self._everyone}

    def _of_pod(self, pod: Object) -> Iterable[Key]:
        """A waiting pod concerns itself; one that ends or goes makes room for all who wait."""
        if is_waiting(pod):
            return objects.own_key(pod)
        gone = self.store.peek("pods", pod["metadata"]["name"], namespace=pod["metadata"]["namespace"]) is None
        return self._everyone(pod) if gone or objects.is_finished(pod) else ()

    def _everyone(self, _: Object) -> Iterable[Key]:
        return [objects.key_of(pod) for pod in self.store.peek_all("pods") if is_waiting(pod)]

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        pod = self.store.peek("pods", name, namespace=namespace)
        if pod is None or not is_waiting(pod):
            return None
        node, reason = choose(pod, self.store.peek_all("nodes"), self.store.peek_all("pods"))
        if node is None:
            await self._refuse(pod, reason)
        else:
            await self._bind(pod, node)
        return None  # whatever makes room brings it back

    async def _bind(self, pod: Object, node: str) -> None:
        namespace, name = objects.key_of(pod)
        now = self.now()

        def bound(old: Object) -> Object:
            status = old.get("status") or {}
            scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None}
            conditions = objects.with_condition(status.get("conditions") or (), scheduled, now)
            return {
                **old,
                "spec": {**old["spec"], "nodeName": node},
                "status": {**status, "conditions": conditions},
            }

        try:
            await self.store.patch("pods", name, bound, namespace=namespace, subresource="binding")
        except NotFound:
            return
        message = f"Successfully assigned {namespace}/{name} to {node}"
        await self._event(pod, "Scheduled", message)

    async def _refuse(self, pod: Object, reason: str) -> None:
        status = pod.get("status") or {}
        old = objects.condition(pod, "PodScheduled") or {}
        if old.get("message") == reason and old.get("status") == "False":
            return  # said already
        new = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": reason,
            "lastProbeTime": None,
        }
        conditions = objects.with_condition(status.get("conditions") or (), new, self.now())
        changed = {**pod, "status": {"phase": "Pending", **status, "conditions": conditions}}
        await self.store.update("pods", changed, subresource="status")
        await self._event(pod, "FailedScheduling", reason, warning=True)

    async def _event(self, pod: Object, reason: str, message: str, *, warning: bool = False) -> None:
        await events.record(
            self.store,
            pod,
            kind="Warning" if warning else "Normal",
            reason=reason,
            message=message,
            component=self.name,
            now=self.now(),
        )
