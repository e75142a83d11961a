"""The scheduler: finds a node for every pod that has none.

In: pods without a node, nodes, running pods, claims. Out: bindings (spec.nodeName), volumes reserved for the chosen
node, condition PodScheduled, events; pods of lower priority deleted where nothing else makes room. A pod that cannot be
placed is parked, and comes back when something happens that may help it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from kubelab.apiserver.errors import NotFound
from kubelab.apiserver.evictions import BUDGETS
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.store import Store
from kubelab.apiserver.watch import Change
from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.index import PodIndex
from kubelab.controllers.objects import Object
from kubelab.controllers.scheduling import attempt, fit, preemption, volumes
from kubelab.controllers.scheduling.attempt import Attempt, Refusal
from kubelab.controllers.scheduling.view import ClusterView, NodeInfo, Resident
from kubelab.controllers.storage import matching

SCHEDULER = "default-scheduler"
NO_NODES = "no nodes available to schedule pods"
GATED = "Scheduling is blocked due to non-empty scheduling gates"
BIND_PATIENCE = 5.0
"""Seconds after which a pod whose volumes are being made is looked at again."""


def is_waiting(pod: Object) -> bool:
    spec = pod.get("spec") or {}
    mine = spec.get("schedulerName", SCHEDULER) == SCHEDULER
    return mine and not spec.get("nodeName") and objects.is_active(pod)


class Scheduler(Controller):
    name = SCHEDULER

    def __init__(self, store: Store, *, pods: PodIndex, now: Callable[[], datetime]) -> None:
        self._parked: set[Key] = set()
        self._view = ClusterView(store)
        super().__init__(store, pods=pods, now=now)

    def watches(self) -> Mapping[str, Mapper]:
        return {
            "pods": lambda pod: objects.own_key(pod) if is_waiting(pod) else (),
            "nodes": lambda _: tuple(self._parked),
            matching.CLAIMS: self._with_volumes,
            matching.VOLUMES: self._with_volumes,
            matching.CLASSES: self._with_volumes,
        }

    def observe(self, resource: Resource, change: Change) -> None:
        self._view.observe(resource, change)
        super().observe(resource, change)
        if resource.key == "pods" and self._parked:
            self._reconsider(change)

    def _reconsider(self, change: Change) -> None:
        """A pod that ends or goes makes room; one that comes, or looks different, may be company."""
        pod, old = change.entry.object, change.previous.object if change.previous else None
        gone = change.type == "DELETED" or (
            objects.is_finished(pod) and old is not None and not objects.is_finished(old)
        )
        if gone:
            self._parked.discard(objects.key_of(pod))
        home = (pod.get("spec") or {}).get("nodeName")
        came = home and (
            old is None
            or (old.get("spec") or {}).get("nodeName") != home
            or objects.labels_of(old) != objects.labels_of(pod)
        )
        for key in tuple(self._parked) if gone or came else ():
            waiting = self.store.peek("pods", key[1], namespace=key[0])
            spec = (waiting or {}).get("spec") or {}
            if gone or "affinity" in spec or "topologySpreadConstraints" in spec:
                self.queue.add(key)

    def _with_volumes(self, _: Object) -> Iterable[Key]:
        """Parked pods that have claims."""
        for key in tuple(self._parked):
            pod = self.store.peek("pods", key[1], namespace=key[0])
            if pod is not None and next(volumes.claim_names(pod), None) is not None:
                yield key

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        pod = self.store.peek("pods", name, namespace=namespace)
        self._parked.discard(key)
        if pod is None or not is_waiting(pod):
            return None
        if pod["spec"].get("schedulingGates"):
            await self._refuse(pod, "SchedulingGated", GATED)
            return None
        infos = self._with_nominated(pod)
        if not infos:
            return await self._park(pod, NO_NODES)
        trial = Attempt(pod, self._view, self.store)
        if trial.volumes.problem:
            hopeless = Refusal((trial.volumes.problem,), True)
            text = f"0/{len(infos)} nodes are available: {trial.volumes.problem}."
            return await self._park(pod, f"{text} {preemption.explain(pod, [hopeless] * len(infos))}")
        refusals = {info.name: refusal for info in infos if (refusal := trial.refusal(info)) is not None}
        fitting = [info for info in infos if info.name not in refusals]
        if fitting:
            return await self._place(pod, trial, trial.best(fitting))
        return await self._make_room(pod, trial, infos, refusals)

    def _with_nominated(self, pod: Object) -> list[NodeInfo]:
        """The nodes, on which pods that made room for themselves count already: nobody of less priority takes it."""
        mine, infos = preemption.priority_of(pod), {info.name: info for info in self._view.nodes}
        for key in self._parked:
            other = self.store.peek("pods", key[1], namespace=key[0])
            nominated = ((other or {}).get("status") or {}).get("nominatedNodeName")
            if other is not None and nominated in infos and preemption.priority_of(other) >= mine:
                infos[nominated] = infos[nominated].copy()
                infos[nominated].add(key, Resident(other, fit.requests_of(other), frozenset(fit.host_ports(other))))
        return list(infos.values())

    async def _place(self, pod: Object, trial: Attempt, info: NodeInfo) -> float | None:
        if trial.volumes.ready:
            await self._bind(pod, info.name)
            return None
        self._parked.add(objects.key_of(pod))
        await volumes.reserve(self.store, trial.volumes, info.node)
        return BIND_PATIENCE

    async def _make_room(
        self, pod: Object, trial: Attempt, infos: list[NodeInfo], refusals: Mapping[str, Refusal]
    ) -> float | None:
        listed = [refusals[info.name] for info in infos]
        if self._pending_room(pod):
            self._parked.add(objects.key_of(pod))  # its status says why
            return None
        budgets = [entry for entry in self.store.peek_all(BUDGETS) if entry.get("status")]
        chosen = preemption.choose(trial, infos, refusals, budgets)
        await self._park(pod, attempt.explain(listed, "" if chosen else preemption.explain(pod, listed)))
        if chosen is not None:
            current = self.store.peek("pods", pod["metadata"]["name"], namespace=pod["metadata"]["namespace"])
            if current is not None:
                await self.write_status(current, {**(current.get("status") or {}), "nominatedNodeName": chosen.node})
            for victim in chosen.victims:
                await self._preempt(pod, victim, chosen.node)
        return None  # whatever makes room brings it back

    def _pending_room(self, pod: Object) -> bool:
        """Whether victims of an earlier round are still ending on the pod's nominated node."""
        nominated = (pod.get("status") or {}).get("nominatedNodeName", "")
        mine = preemption.priority_of(pod)
        return any(
            objects.is_deleting(other) and preemption.priority_of(other) < mine for other in self.pods.on(nominated)
        )

    async def _preempt(self, pod: Object, victim: Object, node: str) -> None:
        namespace, name = objects.key_of(victim)
        status = victim.get("status") or {}
        new = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{SCHEDULER}: preempting to accommodate a higher priority pod",
        }
        conditions = objects.with_condition(status.get("conditions") or (), new, self.now())
        await self.write_status(victim, {**status, "conditions": conditions})
        await self.event(victim, "Preempted", f"Preempted by pod {objects.uid_of(pod)} on node {node}")
        try:
            await self.store.delete("pods", name, namespace=namespace, uid=objects.uid_of(victim))
        except NotFound:
            return

    async def _bind(self, pod: Object, node: str) -> None:
        namespace, name = objects.key_of(pod)
        now = self.now()

        def bound(old: Object) -> Object:
            status = {k: v for k, v in (old.get("status") or {}).items() if k != "nominatedNodeName"}
            scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None}
            conditions = objects.with_condition(status.get("conditions") or (), scheduled, now)
            return {**old, "spec": {**old["spec"], "nodeName": node}, "status": {**status, "conditions": conditions}}

        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"name": node}}
        await self.store.review("pods", name, binding, namespace=namespace, subresource="binding", operation="CREATE")
        try:
            await self.store.patch("pods", name, bound, namespace=namespace, subresource="binding")
        except NotFound:
            return
        await self.event(pod, "Scheduled", f"Successfully assigned {namespace}/{name} to {node}")

    async def _park(self, pod: Object, text: str) -> float | None:
        self._parked.add(objects.key_of(pod))
        if await self._refuse(pod, "Unschedulable", text):
            await self.event(pod, "FailedScheduling", text, warning=True)
        return None

    async def _refuse(self, pod: Object, reason: str, text: str) -> bool:
        """Say in the pod's status why it has no node. False: it says so already."""
        status, old = pod.get("status") or {}, objects.condition(pod, "PodScheduled") or {}
        if (old.get("status"), old.get("reason"), old.get("message")) == ("False", reason, text):
            return False
        new = {"type": "PodScheduled", "status": "False", "reason": reason, "message": text, "lastProbeTime": None}
        conditions = objects.with_condition(status.get("conditions") or (), new, self.now())
        await self.write_status(pod, {"phase": "Pending", **status, "conditions": conditions})
        return True
