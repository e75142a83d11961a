"""The kernel's ring buffer, read from mapped memory in whole runs.

Owns: `RingReader`, which turns a mapped BPF ring buffer (kernel: Documentation/bpf/ringbuf.rst) into arrays of
records without a Python object per event and without a wake-up: somebody calls `drain()` when it is time.
Comes in: `RingMemory`, the mapping (made by the datapath; a plain array in tests). Goes out: runs of records to a
sink, and the consumer position to the kernel.

Layout: every record is an 8-byte header (u32 length with two flag bits, u32 page offset) and its data, padded to 8
bytes. The first data pages are mapped again behind the last, so that a record that crosses the end is contiguous.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cilium.hubble.records import EVENT, RECORD_SIZE, Records

BUSY, DISCARD = 1 << 31, 1 << 30
LENGTH_MASK = DISCARD - 1
HEADER = 8
STRIDE = HEADER + RECORD_SIZE
RUN = 16_384
"""Records copied at once: 2 MB, about a millisecond; the event loop breathes between runs."""


class RingMemory(Protocol):
    """A mapped ring buffer, as `cilium.datapath.ringbuf.RingBuffer` is one. Positions count bytes and only grow."""

    size: int
    """Bytes of data."""
    data: NDArray[np.uint8]
    """The data pages, and behind them at least one record's length of the first ones again."""
    consumer_position: int
    """How far the reader has come; writing it gives the room back."""

    @property
    def producer_position(self) -> int:
        """How far the kernel has come."""


@dataclass(slots=True)
class RingCounters:
    records: int = 0
    discarded: int = 0
    """Reserved and thrown away by a program; no event."""
    foreign: int = 0
    """Records of another size, as a program of another version writes them; skipped."""


class RingReader:
    """Single consumer of one ring buffer. Its size must be a power of two."""

    def __init__(self, memory: RingMemory, sink: Callable[[Records], None]) -> None:
        self._memory = memory
        self._data = memory.data
        self._size = memory.size
        if self._size <= 0 or self._size & (self._size - 1):
            raise ValueError(f"ring buffer: data of {self._size} bytes is no power of two")
        if len(memory.data) < self._size + STRIDE:
            raise ValueError("ring buffer: a record that crosses the end is not mapped in one piece")
        self._sink = sink
        self.counters = RingCounters()

    @property
    def capacity(self) -> int:
        """Records that fit."""
        return self._size // STRIDE

    def drain(self, limit: int = RUN) -> int:
        """Hand up to about `limit` finished records to the sink; return how many. Stops at a record being written.

        The kernel publishes the producer position, then clears BUSY when a record is complete; both are read here
        before the data, in that order, which is what x86-64 guarantees for plain loads and a store-release needs.
        """
        position = self._memory.consumer_position
        taken = 0
        while taken < limit:
            available = self._memory.producer_position - position
            if available < HEADER:
                break
            start = position & (self._size - 1)
            until_end = (len(self._data) - start) // STRIDE
            done, consumed = self._run(start, min(available // STRIDE, limit - taken, until_end))
            if not consumed:
                consumed = self._odd(start)
            if not consumed:
                break
            taken += done
            position += consumed
            self._memory.consumer_position = position
        return taken

    def _run(self, start: int, count: int) -> tuple[int, int]:
        """Copy the run of regular records at `start`: (records handed on, bytes consumed)."""
        if not count:
            return 0, 0
        cells = self._data[start : start + count * STRIDE].reshape(count, STRIDE)
        headers = np.ascontiguousarray(cells[:, :4]).view("<u4")[:, 0]
        regular = (headers & ~np.uint32(DISCARD)) == RECORD_SIZE
        length = count if regular.all() else int(regular.argmin())
        if not length:
            return 0, 0
        records = cells[:length, HEADER:]
        discarded = (headers[:length] & np.uint32(DISCARD)) != 0
        dropped = int(np.count_nonzero(discarded))
        if dropped:
            records = records[~discarded]
        if len(records):
            self._sink(records.view(EVENT)[:, 0])
        self.counters.records += len(records)
        self.counters.discarded += dropped
        return len(records), length * STRIDE

    def _odd(self, start: int) -> int:
        """Bytes to skip for a finished record of another size at `start`; 0 if it is still being written."""
        header = int(self._data[start : start + 4].view("<u4")[0])
        length = header & LENGTH_MASK
        if header & BUSY or length == RECORD_SIZE:
            return 0
        if header & DISCARD:
            self.counters.discarded += 1
        else:
            self.counters.foreign += 1
        return HEADER + (length + 7 & ~7)
