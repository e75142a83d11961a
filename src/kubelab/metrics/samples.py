"""What was measured, and the use that follows from it: pure functions over two looks at a node.

In: Summaries of kubelets. Out: samples of nodes; from two of them the CPU and memory of the node and its containers.
Source: Kubernetes documentation "Resource metrics pipeline".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubelab import timestamps

SHORTEST, LONGEST = 5.0, 60.0
"""Of a container that was seen once, the time since its start is the window, if it lies within these seconds."""
PodKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Point:
    """One look: CPU since `started`, memory now. Seconds since the epoch; `started` is 0 where nobody knows."""

    at: float
    started: float
    cpu_nanoseconds: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used over the `window` of seconds that ends `at`."""

    at: float
    window: float
    cpu_nanocores: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a node and its containers, by pod and name."""

    node: Point
    pods: Mapping[PodKey, Mapping[str, Point]]


@dataclass(frozen=True, slots=True)
class PodUsage:
    """A pod of which every container has been measured long enough."""

    at: float
    window: float
    containers: Mapping[str, Usage]


def sample_of(summary: Mapping[str, Any], at: float) -> Sample:
    """A kubelet's Summary, received `at`. Raises KeyError, TypeError for what is none."""
    pods = {
        (pod["podRef"]["namespace"], pod["podRef"]["name"]): {
            container["name"]: _point(container, at) for container in pod["containers"]
        }
        for pod in summary["pods"]
    }
    return Sample(_point(summary["node"], at), pods)


def usage_of(latest: Point, before: Point | None) -> Usage | None:
    """The use between two looks; of what is younger than the first, since its start. None: too little is known."""
    if before is not None and _continues(latest, before):
        return _use(latest, before.cpu_nanoseconds, latest.at - before.at)
    if latest.started and SHORTEST <= latest.at - latest.started <= LONGEST:
        return _use(latest, 0, latest.at - latest.started)
    return None


def pod_usage(key: PodKey, latest: Sample, before: Sample | None) -> PodUsage | None:
    """None for a pod that is not there, runs nothing, or has a container of which too little is known."""
    earlier = before.pods.get(key, {}) if before is not None else {}
    used = {name: usage_of(point, earlier.get(name)) for name, point in latest.pods.get(key, {}).items()}
    known = {name: usage for name, usage in used.items() if usage is not None}
    if not known or len(known) < len(used):
        return None
    return PodUsage(min(u.at for u in known.values()), min(u.window for u in known.values()), known)


def _continues(latest: Point, before: Point) -> bool:
    """Whether both are of one life: a container that was started anew counts from zero."""
    later = latest.at > before.at and latest.cpu_nanoseconds >= before.cpu_nanoseconds
    return later and latest.started == before.started


def _use(latest: Point, spent_before: int, window: float) -> Usage:
    rate = int((latest.cpu_nanoseconds - spent_before) / window)
    return Usage(latest.at, window, rate, latest.memory_bytes)


def _point(measured: Mapping[str, Any], at: float) -> Point:
    started = measured.get("startTime")
    return Point(
        at=at,
        started=timestamps.parse(started).timestamp() if started else 0.0,
        cpu_nanoseconds=measured["cpu"]["usageCoreNanoSeconds"],
        memory_bytes=measured["memory"]["workingSetBytes"],
    )
