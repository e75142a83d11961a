"""What follows from two looks at a node."""

from __future__ import annotations

from typing import Any

import pytest

from kubelab.metrics.samples import Point, Usage, pod_usage, sample_of, usage_of

CORE = 1_000_000_000
START = "2026-01-01T00:00:00Z"
STARTED = 1_767_225_600.0


@pytest.mark.parametrize(
    ("latest", "before", "expected"),
    [
        (Point(110, 0, 3 * CORE, 7), Point(100, 0, CORE, 5), Usage(110, 10, CORE // 5, 7)),
        (Point(110, 0, CORE, 7), None, None),
        (Point(110, 100, CORE, 7), None, Usage(110, 10, CORE // 10, 7)),
        (Point(103, 100, CORE, 7), None, None),
        (Point(900, 100, CORE, 7), None, None),
        # A new life counts from zero, also when it has used more than the old one had.
        (Point(110, 103, CORE, 7), Point(100, 90, CORE // 2, 7), Usage(110, 7, CORE // 7, 7)),
        (Point(110, 0, CORE, 7), Point(100, 0, 2 * CORE, 7), None),
        (Point(100, 0, CORE, 7), Point(100, 0, CORE, 7), None),
    ],
    ids=["two looks", "one look", "since its start", "too young", "too old", "started anew", "backwards", "same look"],
)
def test_use_is_what_was_spent_over_a_window(latest: Point, before: Point | None, expected: Usage | None) -> None:
    assert usage_of(latest, before) == expected


def test_a_pod_is_known_when_all_its_containers_are() -> None:
    first = sample_of(_summary(main=CORE), STARTED + 100)
    second = sample_of(_summary(main=2 * CORE, side=0), STARTED + 110)
    third = sample_of(_summary(main=2 * CORE, side=CORE), STARTED + 120)
    assert pod_usage(("a", "p"), first, None) is None
    known = pod_usage(("a", "p"), sample_of(_summary(main=2 * CORE), STARTED + 110), first)
    assert known is not None
    assert known.containers["main"].cpu_nanocores == CORE // 10
    assert pod_usage(("a", "p"), second, first) is None
    both = pod_usage(("a", "p"), third, second)
    assert both is not None
    assert {name: used.cpu_nanocores for name, used in both.containers.items()} == {"main": 0, "side": CORE // 10}
    assert pod_usage(("a", "other"), third, second) is None
    assert usage_of(third.node, second.node) == Usage(STARTED + 120, 10, 0, 9)


def _summary(**containers: int) -> dict[str, Any]:
    rows = [
        {
            "name": name,
            "startTime": START,
            "cpu": {"usageCoreNanoSeconds": spent},
            "memory": {"workingSetBytes": 5},
        }
        for name, spent in containers.items()
    ]
    node = {"cpu": {"usageCoreNanoSeconds": 0}, "memory": {"workingSetBytes": 9}}
    return {"node": node, "pods": [{"podRef": {"namespace": "a", "name": "p"}, "containers": rows}]}
