"""What the metrics of an autoscaler ask for.

In: MetricSpecs, the pods they are about, what these use. Out: one number for all of them, and the status of each.
Only resource metrics are to be had: a cluster without adapters has no API for the others, and their conditions say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Protocol

from kubelab.apiserver.errors import ApiError
from kubelab.controllers.autoscaling.recommend import (
    Measured,
    NoRecommendationError,
    Recommendation,
    Target,
    Tolerances,
    recommend,
)
from kubelab.controllers.objects import Object
from kubelab.metrics.samples import PodUsage
from kubelab.quantities import quantity_text, thousandths

_CUSTOM = "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"
_UNKNOWN: Object = {"type": ""}
"""The status of a metric that could not be had."""


class ResourceMetrics(Protocol):
    """Who knows what pods use."""

    async def of_pods(self, pods: Sequence[Object]) -> Mapping[str, PodUsage]:
        """By name, of pods of one namespace; what is not known is left out. Raises ApiError when nobody measures."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """What is scaled: the pods of one selector, how many of them are wanted at present, and within which tolerances."""

    namespace: str
    pods: Sequence[Object]
    current: int
    tolerances: Tolerances


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a metric tells nothing: `reason` of the condition and the event, `why` in full, `summary` with its kind."""

    reason: str
    why: str
    summary: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`replicas` None: nothing can be said, `failures` tells why. `metric` decided."""

    replicas: int | None
    metric: str
    statuses: list[Object]
    failures: list[Failure]


async def evaluate(specs: Sequence[Object], scaled: Scaled, metrics: ResourceMetrics, now: datetime) -> Evaluation:
    """The largest number that a metric asks for. If one of them tells nothing, the others may not scale down."""
    found: list[tuple[int, str]] = []
    statuses, failures = [], []
    for spec in specs:
        try:
            replicas, name, status = await _one(spec, scaled, metrics, now)
        except _MetricError as error:
            failures.append(error.failure)
            statuses.append(dict(_UNKNOWN))
        else:
            found.append((replicas, name))
            statuses.append(status)
    replicas, name = max(found, key=lambda entry: entry[0], default=(0, ""))
    if not found or (failures and replicas < scaled.current):
        return Evaluation(None, "", statuses, failures)
    return Evaluation(replicas, name, statuses, failures)


class _MetricError(Exception):
    def __init__(self, kind: str, why: str, summary: str) -> None:
        super().__init__(why)
        self.failure = Failure(f"FailedGet{kind}Metric", why, f"{summary}: {why}")


async def _one(
    spec: Object, scaled: Scaled, metrics: ResourceMetrics, now: datetime
) -> tuple[int, str, Object]:  # fmt: skip
    """Replicas, the metric's name in messages, its status. Raises _MetricError."""
    kind = str(spec.get("type", ""))
    source = spec.get(kind[:1].lower() + kind[1:]) or {}
    named = (source.get("metric") or {}).get("name", "")
    match kind:
        case "Resource":
            return await _resource(kind, source, "", scaled, metrics, now)
        case "ContainerResource":
            return await _resource(kind, source, source["container"], scaled, metrics, now)
        case "Pods":
            raise _MetricError(kind, f"unable to get metric {named}: {_CUSTOM}", "failed to get pods metric value")
        case "Object":
            about = source.get("describedObject") or {}
            where = f"{about.get('kind')} on {scaled.namespace} {about.get('name')}"
            why = f"unable to get metric {named}: {where}/{_CUSTOM}"
            raise _MetricError(kind, why, "failed to get object metric value")
        case "External":
            selector = _go_selector((source.get("metric") or {}).get("selector"))
            missing = f"the server could not find the requested resource (get {named}.external.metrics.k8s.io)"
            why = (
                f"unable to get external metric {scaled.namespace}/{named}/{selector}: unable to fetch metrics from "
                f"external metrics API: {missing}"
            )
            summary = f"failed to get {named} external metric value: failed to get {named} external metric"
            raise _MetricError(kind, why, summary)
    raise _MetricError("", f'unknown metric source type "{kind}"', "invalid metric source")


async def _resource(
    kind: str, source: Object, container: str, scaled: Scaled, metrics: ResourceMetrics, now: datetime
) -> tuple[int, str, Object]:
    resource, target = source["name"], _target(source["target"])
    what = "container resource" if container else "resource"
    failed = f"failed to get {resource} {'container' if container else 'resource'} metric value"
    share = target.percent is not None
    try:
        measured = await _measure(resource, container, scaled.pods, metrics)
        found = recommend(
            scaled.pods, measured, target,
            resource=resource, container=container, current=scaled.current, tolerances=scaled.tolerances, now=now,
        )  # fmt: skip
    except NoRecommendationError as error:
        prefix = "utilization" if share else "usage"
        raise _MetricError(kind, f"failed to get {resource} {prefix}: {error}", failed) from error
    name = f"{resource} {what}{' utilization (percentage of request)' if share else ''}"
    return found.replicas, name, _status(kind, source, found)


def _target(target: Object) -> Target:
    if target.get("averageValue") is not None:
        return Target(average=thousandths(target["averageValue"]))
    return Target(percent=int(target["averageUtilization"]))


async def _measure(
    resource: str, container: str, pods: Sequence[Object], metrics: ResourceMetrics
) -> dict[str, Measured]:  # fmt: skip
    """Raises NoRecommendationError when nothing is known of any pod."""
    subject = f"unable to get metrics for resource {resource}"
    try:
        known = await metrics.of_pods(pods)
    except ApiError as error:
        why = f"{subject}: unable to fetch metrics from resource metrics API: {error.message}"
        raise NoRecommendationError(why) from error
    if not known:
        raise NoRecommendationError(f"{subject}: no metrics returned from resource metrics API")
    found = {}
    for name, use in known.items():
        if container and container not in use.containers:
            raise NoRecommendationError(f"{subject}: container {container} not present in metrics for pod {name}")
        counted = [one for part, one in use.containers.items() if container in ("", part)]
        value = sum(
            -(-one.cpu_nanocores // 1_000_000) if resource == "cpu" else one.memory_bytes * 1000 for one in counted
        )
        found[name] = Measured(value, datetime.fromtimestamp(use.at, UTC), timedelta(seconds=use.window))
    return found


def _status(kind: str, source: Object, found: Recommendation) -> Object:
    current: Object = {"averageValue": quantity_text(Decimal(found.average) / 1000)}
    if found.percent is not None:
        current["averageUtilization"] = found.percent
    field = kind[:1].lower() + kind[1:]
    whose = {"container": source["container"]} if kind == "ContainerResource" else {}
    return {"type": kind, field: {"name": source["name"], **whose, "current": current}}


def _go_selector(selector: Object | None) -> str:
    """As Go prints a pointer to a LabelSelector."""
    if selector is None:
        return "nil"
    labels = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{}},}}"
    )
