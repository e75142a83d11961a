"""How many pods a metric asks for: pure functions over pods and what they use.

In: pods, their use in thousandths of a unit, a target. Out: a number of replicas and the present value.
Source: Kubernetes documentation "Horizontal Pod Autoscaling", algorithm details.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kubelab.controllers import objects
from kubelab.controllers.objects import Object
from kubelab.quantities import thousandths

INITIALIZATION = timedelta(minutes=5)
"""After its start a pod's CPU counts only while it is ready, and only if it was measured since."""
INITIAL_READINESS = timedelta(seconds=30)
"""A pod that was never ready after this time is not waited for."""
TOLERANCE = 0.1


class NoRecommendationError(Exception):
    """The metric tells nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The use of one pod: thousandths of a unit, at the end of a window."""

    value: int
    at: datetime
    window: timedelta


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far from 1 the ratio of use and target may be before anything changes."""

    up: float = TOLERANCE
    down: float = TOLERANCE

    def hold(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True)
class Target:
    """What pods should use on average: percent of their requests, else thousandths of a unit."""

    percent: int | None = None
    average: int = 0


@dataclass(frozen=True, slots=True)
class Recommendation:
    """`percent` of the requests (None: not asked for) and `average` in thousandths are the present use."""

    replicas: int
    percent: int | None
    average: int


@dataclass(slots=True)
class Groups:
    """Pods by what their use is worth."""

    ready: int = 0
    unready: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)


def recommend(
    pods: Sequence[Object],
    measured: Mapping[str, Measured],
    target: Target,
    *,
    resource: str,
    container: str,
    current: int,
    tolerances: Tolerances,
    now: datetime,
) -> Recommendation:
    """`container` "": all of them. Raises NoRecommendationError."""
    if not pods:
        raise NoRecommendationError("no pods returned by selector while calculating replica count")
    groups = grouped(pods, measured, resource, now)
    left_out = groups.unready | groups.gone
    used = {name: one.value for name, one in measured.items() if name not in left_out}
    if not used:
        raise NoRecommendationError("did not receive metrics for targeted pods (pods might be unready)")
    requests = requests_of(pods, resource, container) if target.percent is not None else {}
    ratio, percent, average = _ratio(used, requests, target)
    rebalances = bool(groups.unready) and ratio > 1.0
    if not rebalances and not groups.missing:
        replicas = current if tolerances.hold(ratio) else math.ceil(ratio * groups.ready)
        return Recommendation(replicas, percent, average)
    # Of those nothing is known of, the worst is assumed: idle when more are wanted, busy when fewer are.
    for name in groups.missing if ratio != 1.0 else ():
        busy = requests.get(name, 0) * max(100, target.percent or 0) // 100 if requests else target.average
        used[name] = busy if ratio < 1.0 else 0
    used.update(dict.fromkeys(groups.unready, 0) if rebalances else {})
    again, _, _ = _ratio(used, requests, target)
    replicas = math.ceil(again * len(used))
    turned = (ratio < 1.0 < again) or (again < 1.0 < ratio)
    against = (again < 1.0 and replicas > current) or (again > 1.0 and replicas < current)
    if tolerances.hold(again) or turned or against:
        replicas = current
    return Recommendation(replicas, percent, average)


def grouped(pods: Sequence[Object], measured: Mapping[str, Measured], resource: str, now: datetime) -> Groups:
    groups = Groups()
    for pod in pods:
        name, phase = pod["metadata"]["name"], (pod.get("status") or {}).get("phase")
        if objects.is_deleting(pod) or phase == "Failed":
            groups.gone.add(name)
        elif phase == "Pending":
            groups.unready.add(name)
        elif name not in measured:
            groups.missing.add(name)
        elif resource == "cpu" and _starting(pod, measured[name], now):
            groups.unready.add(name)
        else:
            groups.ready += 1
    return groups


def _starting(pod: Object, measured: Measured, now: datetime) -> bool:
    """Whether the pod's CPU is that of its start."""
    ready = objects.condition(pod, "Ready")
    started = objects.parse_time((pod.get("status") or {}).get("startTime"))
    changed = objects.parse_time((ready or {}).get("lastTransitionTime"))
    if ready is None or started is None or changed is None:
        return True
    if started + INITIALIZATION > now:
        return ready.get("status") == "False" or measured.at < changed + measured.window
    return ready.get("status") == "False" and started + INITIAL_READINESS > changed


def requests_of(pods: Sequence[Object], resource: str, container: str) -> dict[str, int]:
    """Thousandths by pod. Raises NoRecommendationError for a container without a request."""
    found = {}
    for pod in pods:
        name, spec = pod["metadata"]["name"], pod.get("spec") or {}
        sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
        wanted = [one for one in (*spec.get("containers", ()), *sidecars) if container in ("", one["name"])]
        if not wanted:
            raise NoRecommendationError(f"container {container} not found in Pod {name}")
        total = 0
        for one in wanted:
            request = ((one.get("resources") or {}).get("requests") or {}).get(resource)
            if request is None:
                text = f"missing request for {resource} in container {one['name']} of Pod {name}"
                raise NoRecommendationError(text)
            total += thousandths(request)
        found[name] = total
    return found


def _ratio(used: Mapping[str, int], requests: Mapping[str, int], target: Target) -> tuple[float, int | None, int]:
    """Use by target; percent of the requests; average in thousandths."""
    if target.percent is None:
        average = sum(used.values()) // len(used)
        return average / target.average, None, average
    known = [name for name in used if name in requests]
    asked = sum(requests[name] for name in known)
    if asked == 0:
        raise NoRecommendationError("no metrics returned matched known pods")
    total = sum(used[name] for name in known)
    percent = total * 100 // asked
    return percent / target.percent, percent, total // len(known)
