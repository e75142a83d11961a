"""The recent past: a ring of raw records with sequence numbers.

Owns: `EventStore`, a numpy array used as a ring. Records get the sequence numbers 0, 1, 2, … in order of arrival;
the newest `capacity` of them are kept. Losses are kept beside the records, at the place in the sequence where they
happened.
Comes in: runs of records from the ring buffer, counts of lost events. Goes out: ranges of records (copies), what a
slow reader has missed, and a wake-up for those who wait for the next record.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

import numpy as np

from cilium.datapath.generated import EventFlags, EventType
from cilium.hubble.records import EVENT, OPAQUE, Records

DEFAULT_CAPACITY = 65_535
MAX_LOSSES = 1024
"""Losses remembered with their place; older ones stay in the total."""


@dataclass(frozen=True, slots=True)
class Loss:
    """`count` events that the kernel could not write between records `sequence - 1` and `sequence`.

    `first` and `last` bound the time it happened in: Unix time in nanoseconds.
    """

    sequence: int
    count: int
    first: int
    last: int


class EventStore:
    """Keeps the newest `capacity` records. One writer, many readers, all on one event loop.

    Raises ValueError for a capacity below 1.
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        if capacity < 1:
            raise ValueError(f"hubble-event-buffer-capacity: {capacity} is no capacity, give 1 or more")
        self.capacity = capacity
        self.lost = 0
        self.seen_flows = 0
        self._records: Records = np.zeros(capacity, EVENT)
        self._bytes = self._records.view(OPAQUE)
        self._end = 0
        self._losses: deque[Loss] = deque(maxlen=MAX_LOSSES)
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def oldest(self) -> int:
        """Sequence number of the oldest record still kept."""
        return max(0, self._end - self.capacity)

    @property
    def end(self) -> int:
        """Sequence number the next record will get."""
        return self._end

    def append(self, records: Records, *, clock_offset: int = 0) -> None:
        """Take a copy of the records; `clock_offset` nanoseconds make their times Unix times.

        Whole records are copied as opaque bytes: numpy would copy structured ones field by field.
        """
        count = len(records)
        if not count:
            return
        self.seen_flows += flows_in(records)
        kept = records[-self.capacity :].view(OPAQUE)
        start = (self._end + count - len(kept)) % self.capacity
        head = min(len(kept), self.capacity - start)
        for place, part in ((slice(start, start + head), kept[:head]), (slice(len(kept) - head), kept[head:])):
            self._bytes[place] = part
            self._records["time"][place] += np.uint64(clock_offset)
        self._end += count
        self._wake()

    def note_loss(self, count: int, *, first: int, last: int) -> None:
        """Record that `count` events were lost before the next record."""
        self.lost += count
        self._losses.append(Loss(self._end, count, first, last))
        self._wake()

    def read(self, start: int, stop: int) -> Records:
        """A copy of records `start` to `stop` (exclusive), cut to what is kept."""
        start, stop = max(start, self.oldest), min(stop, self._end)
        if start >= stop:
            return self._records[:0].copy()
        low, high = start % self.capacity, (stop - 1) % self.capacity + 1
        parts = (self._bytes[low:high],) if low < high else (self._bytes[low:], self._bytes[:high])
        return np.concatenate(parts).view(EVENT)

    def losses(self, start: int, stop: int) -> list[Loss]:
        """Losses noted at sequence numbers `start` to `stop` (exclusive)."""
        return [loss for loss in self._losses if start <= loss.sequence < stop]

    def num_flows(self) -> int:
        """Flows that the kept records expand to."""
        return flows_in(self._records[: min(self._end, self.capacity)])

    async def wait(self, sequence: int) -> None:
        """Return once record `sequence` is there, or a loss was noted meanwhile."""
        if sequence < self._end:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    @property
    def waiting(self) -> int:
        """Readers who follow and have read everything: the poller hurries for them."""
        return len(self._waiting)

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


def flows_in(records: Records) -> int:
    """Flows the records expand to: one each, one for every decided direction, one for a socket's new address.

    Runs for every record that is stored: the two bytes are copied side by side before they are looked at.
    """
    flags, kinds = np.ascontiguousarray(records["flags"]), np.ascontiguousarray(records["type"])
    return (
        len(records)
        + int(np.count_nonzero(flags & EventFlags.EGRESS_DECIDED))
        + int(np.count_nonzero(flags & EventFlags.INGRESS_DECIDED))
        + int(np.count_nonzero(kinds == EventType.TRACE_SOCK))
    )
