"""A BPF ring buffer mapped into this process, for readers that scan many records at once.

In: the map's name (pinned) or a descriptor. Out: `RingBuffer`: positions and the data area, whose beginning is mapped
once more behind its end so that a record that wraps is contiguous. Layout of a record (kernel/bpf/ringbuf.c): u32
length with BUSY (bit 31) and DISCARD (bit 30), u32 page offset, then the data, all rounded up to 8 bytes. The reader
stops at the first BUSY record and then sets `consumer_position`.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cilium.datapath.closing import Closing
from cilium.datapath.errors import ObjectError
from cilium.datapath.libbpf import syscall
from cilium.datapath.mapspec import MapType
from cilium.datapath.paths import MAP_DIRECTORY

BUSY = 1 << 31
DISCARD = 1 << 30
HEADER_SIZE = 8


class RingBuffer(Closing):
    """`data[p & mask]` is the byte at position `p`; positions only grow."""

    def __init__(self, source: str | int, directory: Path = MAP_DIRECTORY, *, overlap: int | None = None) -> None:
        """`source`: the name of a map pinned in `directory`, or a descriptor, which stays the caller's.

        `overlap`: bytes of the second copy, whole pages; by default all. Every page mapped counts as this process's
        memory, and a reader that goes record by record needs no more than the longest record.

        Raises ObjectError when the map is no ring buffer, NoSuchEntry when nothing is pinned there.
        """
        self._fd = os.dup(source) if isinstance(source, int) else syscall.get(str(directory / source))
        try:
            info = syscall.info(self._fd, "map_info")
            if info.type != MapType.RINGBUF:
                raise ObjectError(f"map {source} is of kind {info.type}, no ring buffer")
            self.size: int = info.max_entries
            page = mmap.PAGESIZE
            self._consumer = mmap.mmap(self._fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            length = page + self.size + (self.size if overlap is None else overlap)
            self._producer = mmap.mmap(self._fd, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        except BaseException:
            os.close(self._fd)
            raise
        self.mask = self.size - 1
        self.data: NDArray[np.uint8] = np.frombuffer(self._producer, np.uint8, offset=page)
        self._consumed: NDArray[np.uint64] = np.frombuffer(self._consumer, np.uint64, count=1)
        self._produced: NDArray[np.uint64] = np.frombuffer(self._producer, np.uint64, count=1)

    @property
    def producer_position(self) -> int:
        """Bytes ever reserved by the kernel."""
        return int(self._produced[0])

    @property
    def consumer_position(self) -> int:
        """Bytes ever given back by the reader; setting it frees the room before it."""
        return int(self._consumed[0])

    @consumer_position.setter
    def consumer_position(self, position: int) -> None:
        self._consumed[0] = position

    def fileno(self) -> int:
        """Readable (epoll) when a record was submitted with a wake-up."""
        return self._fd

    def close(self) -> None:
        """Give up the mappings; they go when the last array that looks into them does."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            empty = np.empty(0, np.uint8)
            self.data, self._consumed, self._produced = empty, empty.view(np.uint64), empty.view(np.uint64)
            del self._consumer, self._producer
