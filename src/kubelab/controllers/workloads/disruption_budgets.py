"""PodDisruptionBudgets: how many of the pods they select may be evicted now.

In: budgets, pods, the workloads that own them. Out: the budget's status, which evictions consult and lower
(`kubelab.apiserver.evictions`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from kubelab.apiserver.selectors import LabelSelector, from_spec
from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.objects import Object

RESOURCE = "poddisruptionbudgets.policy"
FORGET = timedelta(minutes=2)
"""An eviction that deleted nothing within this time is no longer expected to."""
_SCALED = {
    ("apps", "ReplicaSet"): "replicasets.apps",
    ("apps", "StatefulSet"): "statefulsets.apps",
    ("apps", "Deployment"): "deployments.apps",
    ("", "ReplicationController"): "replicationcontrollers",
}


def selector_of(budget: Object) -> LabelSelector | None:
    """An empty selector selects every pod of the namespace, none at all selects nothing."""
    return from_spec(budget["spec"].get("selector"))


class DisruptionController(Controller):
    name = "disruption-controller"

    def watches(self) -> Mapping[str, Mapper]:
        owners = dict.fromkeys(_SCALED.values(), self._all_of_namespace)
        return {RESOURCE: objects.own_key, "pods": self._of_pod, **owners}

    def _all_of_namespace(self, obj: Object) -> Iterable[Key]:
        present = self.store.peek_all(RESOURCE, namespace=obj["metadata"]["namespace"])
        return [objects.key_of(budget) for budget in present]

    def _of_pod(self, pod: Object) -> Iterable[Key]:
        for budget in self.store.peek_all(RESOURCE, namespace=pod["metadata"]["namespace"]):
            selector = selector_of(budget)
            if selector is not None and selector.matches(objects.labels_of(pod)):
                yield objects.key_of(budget)

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        budget = self.store.peek(RESOURCE, name, namespace=namespace)
        if budget is None:
            return None
        selector = selector_of(budget)
        pods = [
            pod
            for pod in self.store.peek_all("pods", namespace=namespace)
            if selector is not None and selector.matches(objects.labels_of(pod)) and not objects.is_finished(pod)
        ]
        if not pods and not (budget.get("status") or {}).get("expectedPods"):
            await self.event(budget, "NoPods", "No matching pods found")
        expected, desired, problem = self._demand(budget, pods)
        disrupted, wait = self._disrupted(budget, pods)
        healthy = sum(
            objects.is_ready(pod) and not objects.is_deleting(pod) and pod["metadata"]["name"] not in disrupted
            for pod in pods
        )
        allowed = max(0, healthy - desired) if expected > 0 and not problem else 0
        if problem:
            await self.event(budget, "CalculateExpectedPodCountFailed", problem, warning=True)
        status: Object = {
            "observedGeneration": budget["metadata"].get("generation", 0),
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "disruptionsAllowed": allowed,
            "expectedPods": expected,
            **({"disruptedPods": disrupted} if disrupted else {}),
            "conditions": self._conditions(budget, allowed, problem),
        }
        await self.write_status(budget, status)
        return wait

    def _conditions(self, budget: Object, allowed: int, problem: str) -> list[Object]:
        reason = "SyncFailed" if problem else "SufficientPods" if allowed else "InsufficientPods"
        new = {
            "type": "DisruptionAllowed",
            "status": "True" if allowed else "False",
            "reason": reason,
            "message": problem,
            "observedGeneration": budget["metadata"].get("generation", 0),
        }
        return objects.with_condition((budget.get("status") or {}).get("conditions") or (), new, self.now())

    def _demand(self, budget: Object, pods: list[Object]) -> tuple[int, int, str]:
        """Pods expected, pods that must stay healthy, and what keeps from knowing. Shares are of what owners want."""
        spec = budget["spec"]
        least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
        if most is None and not isinstance(least, str):
            return len(pods), int(least if least is not None else 1), ""
        expected, problem = self._wanted(pods)
        if problem:
            return 0, 0, problem
        if most is not None:
            return expected, max(0, expected - objects.share(most, expected, default=0, up=True)), ""
        return expected, objects.share(least, expected, default=0, up=True), ""

    def _wanted(self, pods: list[Object]) -> tuple[int, str]:
        """The sum of what the pods' controllers want."""
        sizes: dict[str, int] = {}
        for pod in pods:
            owner = objects.controller_of(pod)
            if owner is None:
                return 0, f"found no controller ref for pod {pod['metadata']['name']!r}"
            found = self._scaled(pod["metadata"]["namespace"], owner)
            if found is None:
                return 0, f"{owner['kind']}.{owner['apiVersion']} does not implement the scale subresource"
            sizes[objects.uid_of(found)] = int(found["spec"].get("replicas", 1))
        return sum(sizes.values()), ""

    def _scaled(self, namespace: str, owner: Object) -> Object | None:
        """What is scaled: a ReplicaSet's Deployment, else the owner itself."""
        resource = _SCALED.get((owner["apiVersion"].rpartition("/")[0], owner["kind"]))
        found = self.store.peek(resource, owner["name"], namespace=namespace) if resource is not None else None
        above = objects.controller_of(found) if found is not None else None
        if above is not None and above["kind"] == "Deployment":
            return self._scaled(namespace, above) or found
        return found

    def _disrupted(self, budget: Object, pods: list[Object]) -> tuple[Object, float | None]:
        """Evictions of which the deletion is still to come, and when the first of them is given up."""
        present = {pod["metadata"]["name"] for pod in pods if not objects.is_deleting(pod)}
        kept, waits = {}, []
        for name, moment in ((budget.get("status") or {}).get("disruptedPods") or {}).items():
            since = objects.parse_time(moment) or self.now()
            left = (since + FORGET - self.now()).total_seconds()
            if name in present and left > 0:
                kept[name] = moment
                waits.append(left)
        return kept, min(waits, default=None)
