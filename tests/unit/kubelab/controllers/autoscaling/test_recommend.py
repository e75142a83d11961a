"""How many pods a metric asks for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubelab.controllers.autoscaling.recommend import (
    Measured,
    NoRecommendationError,
    Recommendation,
    Target,
    Tolerances,
    recommend,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LONG_AGO = "2026-01-01T10:00:00Z"
HALF = Target(percent=50)


def pod(
    name: str, *, phase: str = "Running", ready: str = "True", started: str = LONG_AGO, changed: str = LONG_AGO,
    request: str | None = "100m", **metadata: Any,
) -> dict[str, Any]:  # fmt: skip
    requests = {} if request is None else {"cpu": request}
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": changed}
    return {
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [{"name": "main", "resources": {"requests": requests}}]},
        "status": {"phase": phase, "startTime": started, "conditions": [condition]},
    }


def asked(
    pods: list[dict[str, Any]], values: list[int], target: Target = HALF, *, current: int | None = None, **options: Any
) -> Recommendation:
    """`values` of the first pods."""
    measured = {
        one["metadata"]["name"]: Measured(value, NOW, timedelta(seconds=15))
        for one, value in zip(pods, values, strict=False)
    }
    size = len(pods) if current is None else current
    given: dict[str, Any] = {"resource": "cpu", "container": "", "tolerances": Tolerances(), "now": NOW, **options}
    return recommend(pods, measured, target, current=size, **given)


@pytest.mark.parametrize(
    ("values", "target", "replicas", "percent", "average"),
    [
        ([100, 100], HALF, 4, 100, 100),
        ([10, 10], HALF, 1, 10, 10),
        ([55, 55], HALF, 2, 55, 55),
        ([56, 56], HALF, 3, 56, 56),
        ([46, 46], HALF, 2, 46, 46),
        ([150, 50], Target(average=50), 4, None, 100),
        ([0, 0], HALF, 0, 0, 0),
    ],
    ids=["double", "idle", "tolerated", "just above", "tolerated below", "by value", "nothing"],
)
def test_use_by_target(values: list[int], target: Target, replicas: int, percent: int | None, average: int) -> None:
    assert asked([pod("a"), pod("b")], values, target) == Recommendation(replicas, percent, average)


def test_tolerances_are_of_a_direction() -> None:
    pods = [pod("a"), pod("b")]
    assert asked(pods, [55, 55], tolerances=Tolerances(up=0.05)).replicas == 3
    assert asked(pods, [45, 45], tolerances=Tolerances(down=0.2)).replicas == 2
    assert asked(pods, [35, 35], tolerances=Tolerances(up=0.5, down=0)).replicas == 2


def test_of_pods_without_metrics_the_careful_is_assumed() -> None:
    pods = [pod("a"), pod("b"), pod("c")]
    assert asked(pods, [100, 100]).replicas == 4  # the third is taken for idle: 66 % of three
    assert asked(pods, [10, 10]).replicas == 3  # and for busy: 40 % of three
    assert asked(pods, [10, 10], Target(percent=120)).replicas == 2  # also beyond its request
    assert asked(pods, [60, 60]).replicas == 3  # growth turns into shrinking: nothing happens


def test_pods_that_start_do_not_count() -> None:
    just_now = (NOW - timedelta(seconds=5)).isoformat()
    for young in (
        pod("b", phase="Pending"),
        pod("b", ready="False", started=just_now),
        pod("b", started=just_now, changed=just_now),
        pod("b", ready="False", started=LONG_AGO, changed=LONG_AGO),
    ):
        # Its 1000 are those of its start; as an idle pod it makes 50 % of two.
        assert asked([pod("a"), young], [100, 1000]).replicas == 2
        assert asked([pod("a"), young], [10, 1000], current=2).replicas == 1
    failing = pod("b", ready="False", changed="2026-01-01T11:00:00Z")
    assert asked([pod("a"), failing], [100, 100]).replicas == 4
    assert asked([pod("a"), pod("b", ready="False", started=just_now)], [100, 1000], resource="memory",
                 target=Target(average=100)).replicas == 11  # fmt: skip


def test_pods_that_end_count_for_nothing() -> None:
    ending = pod("b", deletionTimestamp=LONG_AGO)
    assert asked([pod("a"), ending, pod("c", phase="Failed")], [100, 1000, 1000], current=1).replicas == 2


@pytest.mark.parametrize(
    ("pods", "values", "options", "words"),
    [
        ([], [], {}, "no pods returned by selector"),
        ([pod("a")], [], {}, "did not receive metrics for targeted pods"),
        ([pod("a", phase="Pending")], [5], {}, "pods might be unready"),
        ([pod("a", request=None)], [5], {}, "missing request for cpu in container main of Pod a"),
        ([pod("a")], [5], {"container": "x"}, "container x not found in Pod a"),
    ],
)
def test_what_tells_nothing(pods: Any, values: list[int], options: dict[str, Any], words: str) -> None:
    with pytest.raises(NoRecommendationError, match=words):
        asked(pods, values, **options)
