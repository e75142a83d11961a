"""Events reach the API also when they happen again before the first was sent, or while the API is away."""

from __future__ import annotations

import asyncio
from typing import Any

from kubelab.kubelet.client import ApiError
from kubelab.kubelet.reports import Reporter

POD = {"metadata": {"name": "a", "namespace": "n", "uid": "u"}}


class Api:
    """Keeps events as the API server does; fails the first ``failures`` requests."""

    def __init__(self, failures: int = 0) -> None:
        self.counts: dict[str, int] = {}
        self._failures = failures
        self.written = asyncio.Event()

    async def request(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self._failures:
            self._failures -= 1
            raise OSError("away")
        self.counts[body["metadata"]["name"]] = body["count"]
        self.written.set()
        return {}

    async def patch(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        name = path.rsplit("/", 1)[1]
        if name not in self.counts:
            raise ApiError(404, "not found")
        self.counts[name] = fields["count"]
        self.written.set()
        return {}


async def told(reporter: Reporter, api: Api) -> list[int]:
    api.written.clear()
    task = asyncio.create_task(reporter.run())
    await asyncio.wait_for(api.written.wait(), 5)
    task.cancel()
    return list(api.counts.values())


async def test_an_event_that_repeats_before_it_was_told() -> None:
    api = Api()
    reporter = Reporter(api, "node")  # type: ignore[arg-type]  # the two requests it makes
    reporter.event(POD, "Warning", "Unhealthy", "no")
    reporter.event(POD, "Warning", "Unhealthy", "no")
    assert await told(reporter, api) == [2]
    reporter.event(POD, "Warning", "Unhealthy", "no")
    assert await told(reporter, api) == [3]


async def test_an_event_waits_for_the_api() -> None:
    api = Api(failures=1)
    reporter = Reporter(api, "node")  # type: ignore[arg-type]  # the two requests it makes
    reporter.event(POD, "Normal", "Started", "yes")
    assert await told(reporter, api) == [1]
