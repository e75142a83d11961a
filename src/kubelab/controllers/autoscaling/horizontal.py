"""HorizontalPodAutoscalers: as many pods as their use asks for.

In: HorizontalPodAutoscalers, what they point to, its pods and what these use. Out: the scale of what they point to;
their status with its conditions; events. Each is looked at once per period.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from kubelab import timestamps
from kubelab.apiserver.errors import ApiError, NotFound, not_found
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.selectors import LabelSelector, parse_labels
from kubelab.apiserver.store import Store
from kubelab.apiserver.subresources import scale_of
from kubelab.controllers import objects
from kubelab.controllers.autoscaling.evaluate import Evaluation, ResourceMetrics, Scaled, evaluate
from kubelab.controllers.autoscaling.limits import History, decide
from kubelab.controllers.autoscaling.recommend import TOLERANCE, Tolerances
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.index import PodIndex
from kubelab.controllers.objects import Object
from kubelab.quantities import quantity

RESOURCE = "horizontalpodautoscalers.autoscaling"
ABLE, ACTIVE, LIMITED = "AbleToScale", "ScalingActive", "ScalingLimited"
_GOT_SCALE = "the HPA controller was able to get the target's current scale"
_NO_SCALE = "the HPA controller was unable to get the target's current scale"


@dataclass(frozen=True, slots=True)
class Goal:
    """What an autoscaler points to."""

    resource: Resource
    obj: Object
    scale: Object

    @property
    def current(self) -> int:
        return int(self.scale["spec"]["replicas"])

    @property
    def selector(self) -> str:
        return str(self.scale["status"].get("selector", ""))


@dataclass(slots=True)
class Round:
    """One look at an autoscaler, and what its status will be."""

    autoscaler: Object
    status: Object
    history: History
    now: datetime
    conditions: list[Object] = field(default_factory=list)

    def condition(self, kind: str, status: bool, reason: str, message: str) -> None:
        new = {"type": kind, "status": str(status), "reason": reason, "message": message}
        self.conditions = objects.with_condition(self.conditions, new, self.now)


class HorizontalController(Controller):
    name = "horizontal-pod-autoscaler"

    def __init__(
        self, store: Store, *, pods: PodIndex, now: Callable[[], datetime], metrics: ResourceMetrics, period: float
    ) -> None:
        """`period`: seconds between two looks."""
        super().__init__(store, pods=pods, now=now)
        self._metrics, self._period = metrics, period
        self._histories: dict[str, History] = {}
        self._seen: dict[str, tuple[datetime, Object]] = {}

    def watches(self) -> Mapping[str, Mapper]:
        return {RESOURCE: objects.own_key}

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        autoscaler = self.store.peek(RESOURCE, name, namespace=namespace)
        if autoscaler is None:
            self._forget()
            return None
        if objects.is_deleting(autoscaler):
            return None
        uid, now = objects.uid_of(autoscaler), self.now()
        due, spec = self._seen.get(uid, (now, None))
        if spec == autoscaler["spec"] and now < due:  # our own status came back
            return (due - now).total_seconds()
        self._seen[uid] = now + timedelta(seconds=self._period), autoscaler["spec"]
        await self._look(autoscaler)
        return self._period

    def _forget(self) -> None:
        left = {objects.uid_of(entry) for entry in self.store.peek_all(RESOURCE)}
        self._histories = {uid: history for uid, history in self._histories.items() if uid in left}
        self._seen = {uid: seen for uid, seen in self._seen.items() if uid in left}

    async def _look(self, autoscaler: Object) -> None:
        status = autoscaler.get("status") or {}
        history = self._histories.setdefault(objects.uid_of(autoscaler), History())
        found = Round(autoscaler, dict(status), history, self.now(), list(status.get("conditions") or ()))
        try:
            goal = self._goal(autoscaler)
        except ApiError as error:
            await self.event(autoscaler, "FailedGetScale", error.message, warning=True)
            found.condition(ABLE, False, "FailedGetScale", f"{_NO_SCALE}: {error.message}")
        else:
            found.condition(ABLE, True, "SucceededGetScale", _GOT_SCALE)
            if not history.recommended:
                history.recommended.append((found.now, goal.current))
            await self._judge(found, goal)
        status = {"currentReplicas": 0, "desiredReplicas": 0, **found.status, "conditions": found.conditions}
        await self.write_status(autoscaler, status)

    def _goal(self, autoscaler: Object) -> Goal:
        """Raises ApiError for what is not there, or cannot be scaled."""
        reference, namespace = autoscaler["spec"]["scaleTargetRef"], autoscaler["metadata"]["namespace"]
        group = reference.get("apiVersion", "").rpartition("/")[0]
        resource = self.store.registry.find_kind(group, reference["kind"])
        if resource is None:
            raise NotFound(f'no matches for kind "{reference["kind"]}" in group "{group}"')
        if resource.subresource("scale") is None or not resource.namespaced:
            raise NotFound("the server could not find the requested resource")
        obj = self.store.peek(resource.key, reference["name"], namespace=namespace)
        if obj is None:
            raise not_found(group=resource.group, plural=resource.plural, name=reference["name"])
        return Goal(resource, obj, scale_of(obj, resource))

    async def _judge(self, found: Round, goal: Goal) -> None:
        spec, current = found.autoscaler["spec"], goal.current
        low, high = spec.get("minReplicas", 1), spec["maxReplicas"]
        found.status["currentReplicas"] = current
        if current == 0 and low != 0:
            text = "scaling is disabled since the replica count of the target is zero"
            found.condition(ACTIVE, False, "ScalingDisabled", text)
            found.status["desiredReplicas"] = 0
            found.status.pop("currentMetrics", None)
        elif current > high:
            await self._rescale(found, goal, high, "Current number of replicas above Spec.MaxReplicas")
        elif current < low:
            await self._rescale(found, goal, low, "Current number of replicas below Spec.MinReplicas")
        else:
            await self._follow(found, goal)

    async def _follow(self, found: Round, goal: Goal) -> None:
        """Do what the metrics ask for."""
        spec, current = found.autoscaler["spec"], goal.current
        selector = await self._selector(found, goal)
        if selector is None:
            return
        namespace = found.autoscaler["metadata"]["namespace"]
        pods = self._selected(namespace, selector)
        scaled = Scaled(namespace, pods, current, _tolerances(spec))
        asked = await evaluate(spec.get("metrics") or (), scaled, self._metrics, found.now)
        found.status["currentMetrics"] = asked.statuses
        for failure in asked.failures:
            await self.event(found.autoscaler, failure.reason, failure.why, warning=True)
        if asked.replicas is None:
            await self._tell_failure(found, asked, len(spec.get("metrics") or ()))
            return
        text = f"the HPA was able to successfully calculate a replica count from {asked.metric}"
        found.condition(ACTIVE, True, "ValidMetricFound", text)
        decision = decide(spec, found.history, current=current, asked=asked.replicas, now=found.now)
        found.condition(ABLE, True, *decision.able)
        found.condition(LIMITED, decision.limited, *decision.why)
        found.status["desiredReplicas"] = decision.replicas
        if decision.replicas != current:
            above = f"{asked.metric} above target"
            why = above if asked.replicas > current else "All metrics below target"
            await self._rescale(found, goal, decision.replicas, why)

    async def _tell_failure(self, found: Round, asked: Evaluation, count: int) -> None:
        first = asked.failures[0]
        message = f"the HPA was unable to compute the replica count: {first.why}"
        found.condition(ACTIVE, False, first.reason, message)
        text = f"invalid metrics ({len(asked.failures)} invalid out of {count}), first error is: {first.summary}"
        await self.event(found.autoscaler, "FailedComputeMetricsReplicas", text, warning=True)

    async def _selector(self, found: Round, goal: Goal) -> LabelSelector | None:
        """None when it is not clear which pods are meant; condition and events say why."""
        namespace = found.autoscaler["metadata"]["namespace"]
        if not goal.selector:
            reason, event = "the HPA target's scale is missing a selector", "selector is required"
            await self._unclear(found, "InvalidSelector", reason, ("SelectorRequired", event))
            return None
        selector = parse_labels(goal.selector)
        rivals = self._rivals(found.autoscaler, self._selected(namespace, selector))
        if rivals:
            names = " ".join(sorted([*rivals, "/".join(objects.key_of(found.autoscaler))]))
            text = f"pods by selector {goal.selector} are controlled by multiple HPAs: [{names}]"
            await self._unclear(found, "AmbiguousSelector", text, ("AmbiguousSelector", text))
            return None
        return selector

    async def _unclear(self, found: Round, reason: str, message: str, event: tuple[str, str]) -> None:
        found.condition(ACTIVE, False, reason, message)
        await self.event(found.autoscaler, *event, warning=True)
        await self.event(found.autoscaler, "FailedComputeMetricsReplicas", event[1], warning=True)

    def _selected(self, namespace: str, selector: LabelSelector) -> Sequence[Object]:
        pods = self.store.peek_all("pods", namespace=namespace)
        return [pod for pod in pods if selector.matches(objects.labels_of(pod))]

    def _rivals(self, autoscaler: Object, pods: Sequence[Object]) -> list[str]:
        """Other autoscalers that scale some of these pods."""
        found = []
        for other in self.store.peek_all(RESOURCE, namespace=autoscaler["metadata"]["namespace"]):
            if objects.uid_of(other) == objects.uid_of(autoscaler):
                continue
            try:
                selector = parse_labels(self._goal(other).selector)
            except ApiError:
                continue
            if selector.requirements and any(selector.matches(objects.labels_of(pod)) for pod in pods):
                found.append("/".join(objects.key_of(other)))
        return found

    async def _rescale(self, found: Round, goal: Goal, replicas: int, why: str) -> None:
        namespace, name = objects.key_of(goal.obj)
        path = (goal.resource.scale or (".spec.replicas",))[0].strip(".").split(".")
        change: Object = {path[-1]: replicas}
        for part in reversed(path[:-1]):
            change = {part: change}
        try:
            await self.store.patch(goal.resource.key, name, change, namespace=namespace, through="scale")
        except ApiError as error:
            text = f"New size: {replicas}; reason: {why}; error: {error.message}"
            await self.event(found.autoscaler, "FailedRescale", text, warning=True)
            message = f"the HPA controller was unable to update the target scale: {error.message}"
            found.condition(ABLE, False, "FailedUpdateScale", message)
            return
        message = f"the HPA controller was able to update the target scale to {replicas}"
        found.condition(ABLE, True, "SucceededRescale", message)
        await self.event(found.autoscaler, "SuccessfulRescale", f"New size: {replicas}; reason: {why}")
        behavior = found.autoscaler["spec"].get("behavior") or {}
        rules = behavior.get("scaleUp" if replicas > goal.current else "scaleDown") or {}
        found.history.scaled(found.now, goal.current, replicas, rules)
        found.status["desiredReplicas"] = replicas
        found.status["lastScaleTime"] = timestamps.seconds(found.now)


def _tolerances(spec: Object) -> Tolerances:
    behavior = spec.get("behavior") or {}

    def of(direction: str) -> float:
        text = (behavior.get(direction) or {}).get("tolerance")
        return float(quantity(text) if text is not None else Decimal(str(TOLERANCE)))

    return Tolerances(up=of("scaleUp"), down=of("scaleDown"))
