"""Waiting for objects of the lab's API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubelab.lab.api import LabApi, Object
from kubelab.lab.errors import LabError

POD = {"metadata": {"namespace": "n", "name": "p"}}


class Restless(LabApi):
    """Its watch never falls silent."""

    def get(self, path: str) -> Object:
        return {"metadata": {"resourceVersion": "1"}, "items": [POD]}

    def _watch(self, path: str, version: str, deadline: float) -> Iterator[tuple[str, Object]]:
        while True:
            yield "MODIFIED", POD


@pytest.fixture
def api(tmp_path: Path) -> LabApi:
    return Restless("::1", 1, tmp_path, tmp_path, tmp_path)


def test_a_wait_ends_in_time_however_much_happens(api: LabApi) -> None:
    with pytest.raises(LabError, match="pods: not within 0 s"):
        api.wait("/api/v1/pods", lambda items: False, 0.05, "pods")


def test_a_wait_ends_when_a_change_makes_it_true(api: LabApi) -> None:
    asked: list[Any] = []

    def ready(items: list[Object]) -> bool:
        asked.append(items)
        return len(asked) == 3

    api.wait("/api/v1/pods", ready, 10, "pods")
    assert asked == [[POD]] * 3
