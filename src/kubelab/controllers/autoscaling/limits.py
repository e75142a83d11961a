"""From what metrics ask for to what is done: within bounds, steadily, at no more than the allowed rate.

In: an autoscaler's spec, what was asked for and done lately. Out: the number of replicas, with the conditions that say
why. Source: Kubernetes documentation "Horizontal Pod Autoscaling", scaling policies and stabilization window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from kubelab.controllers.objects import Object

DOWN_WINDOW = 300
"""Seconds for which a scaling down waits, where an autoscaler says nothing of its own."""
Direction = Literal["Up", "Down"]
READY = ("ReadyForNewScale", "recommended size matches current size")
STABILIZED = {
    "Up": (
        "ScaleUpStabilized",
        "recent recommendations were lower than current one, applying the lowest recent recommendation",
    ),
    "Down": (
        "ScaleDownStabilized",
        "recent recommendations were higher than current one, applying the highest recent recommendation",
    ),
}
WITHIN = ("DesiredWithinRange", "the desired count is within the acceptable range")
TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
UP_LIMIT = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
DOWN_LIMIT = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")


@dataclass(slots=True)
class History:
    """Of one autoscaler: what was recommended, and by how much it grew and shrank."""

    recommended: list[tuple[datetime, int]] = field(default_factory=list)
    grown: list[tuple[datetime, int]] = field(default_factory=list)
    shrunk: list[tuple[datetime, int]] = field(default_factory=list)

    def recommend(self, now: datetime, replicas: int, window: int) -> None:
        """`window`: for how many seconds it matters."""
        self.recommended = [*_since(self.recommended, now, window), (now, replicas)]

    def scaled(self, now: datetime, before: int, after: int, rules: Object) -> None:
        longest = max((int(policy["periodSeconds"]) for policy in rules.get("policies") or ()), default=0)
        if after > before:
            self.grown = [*_since(self.grown, now, longest), (now, after - before)]
        else:
            self.shrunk = [*_since(self.shrunk, now, longest), (now, before - after)]


@dataclass(frozen=True, slots=True)
class Decision:
    """`able`: reason and message of AbleToScale; `limited` tells the status of ScalingLimited, `why` the rest."""

    replicas: int
    able: tuple[str, str]
    limited: bool
    why: tuple[str, str]


def decide(spec: Object, history: History, *, current: int, asked: int, now: datetime) -> Decision:
    """What to do about a recommendation, which is remembered."""
    behavior = spec.get("behavior")
    up, down = (behavior or {}).get("scaleUp") or {}, (behavior or {}).get("scaleDown") or {}
    up_window = up.get("stabilizationWindowSeconds", 0)
    down_window = down.get("stabilizationWindowSeconds", DOWN_WINDOW)
    direction: Direction = "Up" if asked >= current else "Down"
    # Without a behavior, scaling up is judged by the same window: nothing higher was asked for then.
    window = down_window if behavior is None or direction == "Down" else up_window
    recent = [replicas for _, replicas in _since(history.recommended, now, window)]
    if behavior is None or direction == "Down":
        steady, told = max([asked, *recent]), STABILIZED["Down"]
    else:
        steady, told = min([asked, *recent]), STABILIZED["Up"]
    history.recommend(now, asked, max(up_window, down_window))
    able = told if steady != asked else READY
    low, high = spec.get("minReplicas", 1), spec["maxReplicas"]
    if behavior is None:
        replicas, why = _plainly(current, steady, low, high)
    else:
        rates = (rate(current, history.grown, up, "Up", now), rate(current, history.shrunk, down, "Down", now))
        replicas, why = _at_a_rate(current, steady, (low, high), rates)
    return Decision(replicas, able, replicas != steady, why)


def rate(current: int, done: Sequence[tuple[datetime, int]], rules: Object, direction: Direction, now: datetime) -> int:
    """The farthest that policies let go in a direction, after what was done within their periods."""
    select = rules.get("selectPolicy", "Max")
    if select == "Disabled":
        return current
    sign = 1 if direction == "Up" else -1
    reached = []
    for policy in rules.get("policies") or ():
        start = current - sign * sum(change for _, change in _since(done, now, policy["periodSeconds"]))
        if policy["type"] == "Pods":
            reached.append(start + sign * policy["value"])
        else:
            share = start * (1 + sign * policy["value"] / 100)
            reached.append(math.ceil(share) if direction == "Up" else int(share))
    farthest = max if (direction == "Up") is (select != "Min") else min
    return farthest(reached, default=current)


def _plainly(current: int, asked: int, low: int, high: int) -> tuple[int, tuple[str, str]]:
    """Bounds, and growth to at most the double, or four."""
    fastest = max(2 * current, 4)
    most, why = (fastest, UP_LIMIT) if high > fastest else (high, TOO_MANY)
    if asked < low:
        return low, TOO_FEW
    if asked > most:
        return most, why
    return asked, WITHIN


def _at_a_rate(
    current: int, asked: int, bounds: tuple[int, int], rates: tuple[int, int]
) -> tuple[int, tuple[str, str]]:
    (low, high), (up, down) = bounds, (max(rates[0], current), min(rates[1], current))
    if asked > current:
        most, why = (up, UP_LIMIT) if high > up else (high, TOO_MANY)
        return (most, why) if asked > most else (asked, WITHIN)
    if asked < current:
        least, why = (down, DOWN_LIMIT) if low < down else (low, TOO_FEW)
        return (least, why) if asked < least else (asked, WITHIN)
    return asked, WITHIN


def _since(entries: Sequence[tuple[datetime, int]], now: datetime, seconds: int) -> list[tuple[datetime, int]]:
    start = now - timedelta(seconds=seconds)
    return [entry for entry in entries if entry[0] > start]
