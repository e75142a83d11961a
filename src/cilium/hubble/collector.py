"""Takes events from the kernel's ring into the store, at a pace that fits the load.

Owns: `Collector`, the one consumer of the ring: a timer, never a wake-up per event.
Comes in: the mapped ring, the kernel's count of lost events, the clocks. Goes out: records with Unix times and losses
into the store.

The pace: while events flow, the next look comes when the ring should be a tenth full, between 5 and 100 ms; while
none do, it slows down to 100 ms (the ring of 16 MiB holds what a million events per second make in that time).
Somebody who follows the stream sees an event at most 25 ms late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from cilium.hubble.records import Records
from cilium.hubble.ring import RUN, RingMemory, RingReader
from cilium.hubble.store import EventStore

FASTEST, FOLLOWED, SLOWEST = 0.005, 0.025, 0.1
"""Seconds between two looks: at most load, with a follower waiting, when idle."""
FILL = 0.1
ALARM = 0.25
"""Share of the ring that a look finds filled: from there on the rate may be more than what could be written."""
SLOWING = 1.5
LOSS_INTERVAL = 1.0


class Collector:
    """`lost` returns how many events the kernel could not write since the map was made, summed over types and CPUs."""

    def __init__(
        self,
        memory: RingMemory,
        store: EventStore,
        *,
        lost: Callable[[], int] | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.reader = RingReader(memory, self._store)
        self._to = store
        self._lost = lost
        self._lost_before = lost() if lost else 0
        self._monotonic_ns, self._time_ns = monotonic_ns, time_ns
        self._offset = 0
        self._looked = monotonic_ns()
        self._checked = time_ns()
        self.interval = SLOWEST

    async def run(self) -> None:
        """Collect until cancelled."""
        while True:
            taken, since = 0, self._looked
            while True:
                run = self._look(RUN)
                taken += run
                if run < RUN:
                    break
                await asyncio.sleep(0)
            self.interval = self.pace(taken, (self._looked - since) / 1e9)
            await asyncio.sleep(self.interval)

    def poll(self) -> None:
        """Take now what is there: a reader asks for the newest events. Also counts losses."""
        self._look(self.reader.capacity)
        self._count_losses()

    def pace(self, taken: int, elapsed: float) -> float:
        """Seconds until the next look, after one that found `taken` events of the last `elapsed` seconds."""
        slowest = FOLLOWED if self._to.waiting else SLOWEST
        if not taken:
            return min(self.interval * SLOWING, slowest)
        if taken > ALARM * self.reader.capacity:
            return FASTEST
        until_filled = FILL * self.reader.capacity * elapsed / taken
        return min(max(until_filled, FASTEST), slowest)

    def _look(self, limit: int) -> int:
        self._looked = self._monotonic_ns()
        now = self._time_ns()
        self._offset = now - self._looked
        taken = self.reader.drain(limit)
        if now - self._checked >= LOSS_INTERVAL * 1e9:
            self._count_losses()
        return taken

    def _store(self, records: Records) -> None:
        self._to.append(records, clock_offset=self._offset)

    def _count_losses(self) -> None:
        now = self._time_ns()
        if self._lost is not None:
            total = self._lost()
            if total > self._lost_before:
                self._to.note_loss(total - self._lost_before, first=self._checked, last=now)
            self._lost_before = total
        self._checked = now
