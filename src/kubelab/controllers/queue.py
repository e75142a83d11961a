"""The work queue of a controller: keys, not events.

In: keys to look at, now or later. Out: one key at a time; a key added while it is worked on comes again afterwards.
Failures come back with growing delay, and a key may be given rest between two turns. Waiting costs nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Deduplicating queue with delays; for one event loop. Delays are seconds."""

    def __init__(self, *, retry_min: float = 0.05, retry_max: float = 30.0) -> None:
        self._retry_min, self._retry_max = retry_min, retry_max
        self._ready: deque[K] = deque()
        self._waiting: set[K] = set()
        self._busy: set[K] = set()
        self._again: set[K] = set()
        self._rested: dict[K, float] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._wake = asyncio.Event()

    def add(self, key: K) -> None:
        if key in self._busy:
            self._again.add(key)
        elif self._rested and (left := self._rest(key)) > 0:
            self.add_after(key, left)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.append(key)
            self._wake.set()

    def add_after(self, key: K, delay: float) -> None:
        """Add `key` in `delay` seconds; of several delays of one key the shortest counts."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + delay:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(delay, self._due, key)

    def retry(self, key: K) -> float:
        """Add `key` after its back-off and return that delay."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(self._retry_min * 2.0 ** min(failures, 32), self._retry_max)
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """`key` succeeded: its next failure starts from the shortest delay."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        while not self._ready:
            self._wake.clear()
            await self._wake.wait()
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._busy.add(key)
        return key

    def done(self, key: K, *, rest: float = 0.0) -> None:
        """`rest`: seconds that the key waits at least before its next turn."""
        self._busy.discard(key)
        if rest > 0:
            self._rested[key] = asyncio.get_running_loop().time() + rest
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _rest(self, key: K) -> float:
        """Seconds of rest that are left."""
        until = self._rested.get(key)
        left = 0.0 if until is None else until - asyncio.get_running_loop().time()
        if left <= 0:
            self._rested.pop(key, None)
        return left

    @property
    def idle(self) -> bool:
        """Nothing to do now; timers may be running."""
        return not self._ready and not self._busy

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _due(self, key: K) -> None:
        del self._timers[key]
        self._rested.pop(key, None)
        self.add(key)
