"""Bounds, stabilization and rates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubelab.controllers.autoscaling.limits import History, decide

START = datetime(2026, 1, 1, tzinfo=UTC)


class Scaler:
    """An autoscaler over time: what is decided is done."""

    def __init__(self, current: int, *, low: int = 1, high: int = 100, behavior: Any = None) -> None:
        self.spec = {"minReplicas": low, "maxReplicas": high, **({"behavior": behavior} if behavior else {})}
        self.current, self.now, self.history = current, START, History()
        self.reasons = ("", "")

    def asked(self, replicas: int, after: float = 15) -> int:
        self.now += timedelta(seconds=after)
        decision = decide(self.spec, self.history, current=self.current, asked=replicas, now=self.now)
        self.reasons = (decision.able[0], decision.why[0])
        assert decision.limited is (decision.why[0] != "DesiredWithinRange")
        if decision.replicas != self.current:
            rules = (self.spec.get("behavior") or {}).get(
                "scaleUp" if decision.replicas > self.current else "scaleDown"
            )
            self.history.scaled(self.now, self.current, decision.replicas, rules or {})
            self.current = decision.replicas
        return self.current


def test_without_a_behavior_it_grows_to_the_double_and_shrinks_after_five_minutes() -> None:
    scaler = Scaler(1, high=9)
    assert [scaler.asked(50) for _ in range(3)] == [4, 8, 9]
    assert scaler.reasons == ("ReadyForNewScale", "TooManyReplicas")
    assert [scaler.asked(2, after=59) for _ in range(5)] == [9] * 5
    assert scaler.reasons == ("ScaleDownStabilized", "TooManyReplicas")
    assert scaler.asked(2, after=6) == 2
    assert scaler.asked(0, after=301) == 1
    assert scaler.reasons == ("ReadyForNewScale", "TooFewReplicas")


@pytest.mark.parametrize(
    ("rules", "sizes"),
    [
        ({"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]}, [7, 7, 7, 7, 9]),
        ({"policies": [{"type": "Percent", "value": 50, "periodSeconds": 15}]}, [8, 12, 18, 27, 41]),
        ({"policies": [{"type": "Percent", "value": 10, "periodSeconds": 60},
                       {"type": "Pods", "value": 3, "periodSeconds": 60}]}, [8, 8, 8, 8, 11]),
        ({"selectPolicy": "Min", "policies": [{"type": "Percent", "value": 20, "periodSeconds": 15},
                                              {"type": "Pods", "value": 3, "periodSeconds": 15}]}, [6, 8, 10, 12, 15]),
        ({"selectPolicy": "Disabled", "policies": [{"type": "Pods", "value": 9, "periodSeconds": 15}]}, [5] * 5),
    ],
    ids=["pods", "percent", "the larger", "the smaller", "disabled"],
)  # fmt: skip
def test_growth_keeps_to_its_policies(rules: dict[str, Any], sizes: list[int]) -> None:
    down = {"policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}
    scaler = Scaler(5, behavior={"scaleUp": {"stabilizationWindowSeconds": 0, **rules}, "scaleDown": down})
    assert [scaler.asked(90) for _ in range(5)] == sizes
    assert scaler.reasons[1] == "ScaleUpLimit"


@pytest.mark.parametrize(
    ("rules", "sizes"),
    [
        ({"policies": [{"type": "Pods", "value": 4, "periodSeconds": 30}]}, [16, 16, 12, 12]),
        ({"policies": [{"type": "Percent", "value": 50, "periodSeconds": 15}]}, [10, 5, 2, 1]),
        ({"selectPolicy": "Min", "policies": [{"type": "Percent", "value": 50, "periodSeconds": 15},
                                              {"type": "Pods", "value": 1, "periodSeconds": 15}]}, [19, 18, 17, 16]),
        ({"selectPolicy": "Disabled"}, [20] * 4),
    ],
    ids=["pods", "percent", "the smaller", "disabled"],
)  # fmt: skip
def test_shrinking_keeps_to_its_policies(rules: dict[str, Any], sizes: list[int]) -> None:
    scaler = Scaler(20, behavior={"scaleUp": {}, "scaleDown": {"stabilizationWindowSeconds": 0, **rules}})
    assert [scaler.asked(1) for _ in range(4)] == sizes


def test_windows_hold_back_both_ways() -> None:
    fast = [{"type": "Percent", "value": 900, "periodSeconds": 15}]
    up = {"stabilizationWindowSeconds": 40, "policies": fast}
    all_at_once = [{"type": "Percent", "value": 100, "periodSeconds": 15}]
    scaler = Scaler(
        4, behavior={"scaleUp": up, "scaleDown": {"stabilizationWindowSeconds": 20, "policies": all_at_once}}
    )
    scaler.history.recommend(scaler.now, 4, 40)
    assert [scaler.asked(9) for _ in range(2)] == [4, 4]
    assert scaler.reasons[0] == "ScaleUpStabilized"
    assert scaler.asked(7) == 7  # the lowest of the window
    assert scaler.asked(3) == 7
    assert scaler.reasons == ("ScaleDownStabilized", "DesiredWithinRange")
    assert scaler.asked(3, after=21) == 3
