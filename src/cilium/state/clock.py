"""Time as the engine sees it: seconds that only grow, and calls in the future.

An asyncio loop is a Clock. `ManualClock` is one whose hands a test moves.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol


class Handle(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """The part of `asyncio.AbstractEventLoop` the engine uses."""

    def time(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[], object], /) -> Handle: ...


class _Call:
    def __init__(self, when: float, order: int, callback: Callable[[], object]) -> None:
        self.when, self.order, self.callback = when, order, callback
        self.cancelled = False

    def __lt__(self, other: _Call) -> bool:
        return (self.when, self.order) < (other.when, other.order)

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock:
    """Stands still until `advance`; calls that come due run inside it, in order of their time."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._calls: list[_Call] = []
        self._order = 0

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], object], /) -> Handle:
        self._order += 1
        call = _Call(when, self._order, callback)
        heapq.heappush(self._calls, call)
        return call

    def advance(self, seconds: float) -> None:
        """Moves the hands and runs what has come due."""
        end = self._now + seconds
        while self._calls and self._calls[0].when <= end:
            call = heapq.heappop(self._calls)
            self._now = max(self._now, call.when)
            if not call.cancelled:
                call.callback()
        self._now = end

    @property
    def due(self) -> float | None:
        """When the next call is due."""
        live = [call.when for call in self._calls if not call.cancelled]
        return min(live, default=None)
