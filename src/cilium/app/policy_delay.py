"""How long policies take: from a changed row of `policies` until the kernel's policy maps hold what it means.

In: `policies`, `policy-status` (which speaks only of what is enforced). Out: seconds per object and change.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from cilium.features.policy.rows import PolicyStatus
from cilium.state import Table
from cilium.tables.rules import PolicyObject

GONE = 1 << 63
"""In place of a generation: nothing answers to it but the end of the status."""


class PolicyDelay:
    """`run` is the task. What was there before the start is not counted: it was enforced all along."""

    def __init__(
        self,
        *,
        policies: Table[str, PolicyObject],
        status: Table[str, PolicyStatus],
        observe: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observe, self._clock = observe, clock
        self._wake = asyncio.Event()
        self._policies, self._status = policies.changes(wake=self._wake), status.changes(wake=self._wake)
        self._status_table = status
        self._heard: dict[str, tuple[float, int]] = {}

    async def run(self) -> None:
        """Never returns."""
        await self._status_table.wait_initialized()
        self._policies.pop()
        self._status.pop()
        while True:
            await self._wake.wait()
            self.step()

    def step(self) -> None:
        """Takes in what changed. An object that changes again before it is enforced waits since its first change."""
        now = self._clock()
        gone: list[str] = []
        for change in self._policies.pop():
            gone += [change.key] if change.new is None else []
            since, _ = self._heard.get(change.key, (now, 0))
            self._heard[change.key] = since, GONE if change.new is None else change.new.generation
        for answer in self._status.pop():
            if answer.key not in self._heard:
                continue
            since, generation = self._heard[answer.key]
            if answer.new is None or answer.new.generation >= generation:
                del self._heard[answer.key]
                self._observe(now - since)
        for key in gone:
            if self._heard.get(key, (now, 0))[1] == GONE and key not in self._status_table.snapshot():
                del self._heard[key]  # it came and went between two looks of the engine
