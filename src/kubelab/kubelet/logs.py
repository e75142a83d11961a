"""Container logs: a plain file per attempt that the container writes itself, and an index of when it grew.

In: the file's growth, seen through inotify. Out: lines with times, from the end, since a time, followed.
No process stands between container and file: a kubelet that restarts loses no line. The index holds (time, size)
pairs; a line's time is the first one at which the file had reached its end.
"""

from __future__ import annotations

import asyncio
import bisect
import os
import struct
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from kubelab import timestamps
from kubelab.kubelet.inotify import Inotify
from kubelab.underlay import syscalls

_RECORD = struct.Struct("=dQ")
KEEP_MIN, KEEP_MAX = 16 << 20, 32 << 20
"""Bytes: a log that has grown by more than the larger since it was last cut is cut to the smaller."""

RESOLUTION = 0.02
"""Seconds between index records of a busy log."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What of a log is wanted; times are seconds since the epoch."""

    follow: bool = False
    tail: int | None = None
    since: float | None = None
    timestamps: bool = False
    limit: int | None = None


def index_path(log: Path) -> Path:
    return log.with_suffix(".times")


async def index(log: Path, inotify: Inotify) -> None:
    """Keeps one log short and its index up to date until cancelled."""
    with index_path(log).open("ab", buffering=0) as records:
        await shorten(log, inotify, lambda size: records.write(_RECORD.pack(time.time(), size)))


async def shorten(log: Path, inotify: Inotify, grown: Callable[[int], object] = lambda _: None) -> None:
    """Keeps one log short until cancelled; ``grown`` is called with each size that it is seen to have."""
    fd = os.open(log, os.O_RDWR | os.O_CREAT, 0o644)
    subscription = inotify.subscribe(str(log))
    try:
        known, kept = -1, first_byte(fd)
        while True:
            size = os.fstat(fd).st_size
            if size != known:
                grown(size)
                known = size
            if size - kept > KEEP_MAX:
                syscalls.punch_hole(fd, 0, size - KEEP_MIN)  # the container writes on at its end
                kept = size - KEEP_MIN
            await subscription.changed()
            await asyncio.sleep(RESOLUTION)
    finally:
        subscription.close()
        os.close(fd)


def first_byte(fd: int) -> int:
    """Where the first whole line begins: at 0, or behind what was cut off."""
    try:
        start = os.lseek(fd, 0, os.SEEK_DATA)
    except OSError:
        return 0  # an empty file has no data (ENXIO)
    return 0 if start == 0 else start + os.pread(fd, 1 << 16, start).find(b"\n") + 1


class _Index:
    """Times by offset."""

    def __init__(self, path: Path) -> None:
        raw = path.read_bytes() if path.exists() else b""
        pairs = list(_RECORD.iter_unpack(raw[: len(raw) - len(raw) % _RECORD.size]))
        self._times = [pair[0] for pair in pairs]
        self._sizes = [pair[1] for pair in pairs]

    def at(self, end: int) -> float:
        """When the byte before ``end`` was there."""
        place = bisect.bisect_left(self._sizes, end)
        return self._times[place] if place < len(self._times) else time.time()

    def since(self, moment: float) -> int:
        """The size of the log before the first growth at or after ``moment``."""
        place = bisect.bisect_left(self._times, moment)
        return self._sizes[place - 1] if place else 0


async def read(log: Path, options: LogOptions, inotify: Inotify, running: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Chunks of the log. With ``follow``, goes on until ``running`` says that nothing more will come."""
    subscription = inotify.subscribe(str(log)) if options.follow else None
    try:
        with log.open("rb") as stream:
            offset = _start(stream.fileno(), log, options)
            left = options.limit
            while True:
                alive = running()
                data = os.pread(stream.fileno(), 1 << 16, offset)
                cut = len(data) if len(data) < 1 << 16 and not alive else data.rfind(b"\n") + 1
                if cut == 0 and len(data) == 1 << 16:
                    cut = len(data)
                if cut:
                    chunk = _stamped(log, data[:cut], offset) if options.timestamps else data[:cut]
                    offset += cut
                    if left is not None:
                        chunk, left = chunk[:left], left - len(chunk)
                    yield chunk
                    if left is not None and left <= 0:
                        return
                elif subscription is None:
                    if data:
                        yield _stamped(log, data, offset) if options.timestamps else data
                    return
                elif not alive:
                    return
                else:
                    await subscription.changed()
    finally:
        if subscription is not None:
            subscription.close()


def _start(fd: int, log: Path, options: LogOptions) -> int:
    start = first_byte(fd)
    if options.since is not None:
        start = max(start, _Index(index_path(log)).since(options.since))
    return start if options.tail is None else last_lines(fd, options.tail, start)


def last_lines(fd: int, count: int, start: int) -> int:
    """Where the last ``count`` lines of a file begin, not before ``start``."""
    size = os.fstat(fd).st_size
    if count == 0:
        return size
    wanted, end = count + 1, size
    # Counts line ends backwards, block by block; the last byte's own line end does not count as a line.
    if size and os.pread(fd, 1, size - 1) != b"\n":
        wanted -= 1
    while end > start:
        begin = max(start, end - 65536)
        block = os.pread(fd, end - begin, begin)
        found = block.count(b"\n")
        if found >= wanted:
            position = len(block)
            for _ in range(wanted):
                position = block.rfind(b"\n", 0, position)
            return begin + position + 1
        wanted -= found
        end = begin
    return start


def _stamped(log: Path, data: bytes, offset: int) -> bytes:
    times, out = _Index(index_path(log)), []
    for line in data.splitlines(keepends=True):
        offset += len(line)
        out.append(f"{timestamps.nanos(times.at(offset))} ".encode() + line)
    return b"".join(out)
