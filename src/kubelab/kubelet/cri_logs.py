"""Container logs as runtimes of the Container Runtime Interface write them: each line bears its time and its stream.

In: lines of ``TIME STREAM TAGS TEXT``, tag P for a part of a line and F for its end. Out: as of ``logs``, what the
container wrote. Source: Kubernetes' CRI logging format.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from kubelab import timestamps
from kubelab.kubelet.inotify import Inotify
from kubelab.kubelet.logs import LogOptions, first_byte, last_lines

_BLOCK = 1 << 16
"""Bytes: runtimes split lines of 16 KiB."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the file."""

    time: bytes  # RFC 3339
    text: bytes
    full: bool  # the line of the container ends here

    @property
    def seconds(self) -> float:
        return timestamps.parse(self.time.decode()).timestamp()


def parse(line: bytes) -> Entry | None:
    """None for what is no line of such a log."""
    parts = line.rstrip(b"\n").split(b" ", 3)
    if len(parts) < 3 or parts[1] not in (b"stdout", b"stderr"):
        return None
    return Entry(parts[0], parts[3] if len(parts) > 3 else b"", parts[2].split(b":")[0] != b"P")


async def read(log: Path, options: LogOptions, inotify: Inotify, running: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Chunks of the log. With ``follow``, goes on until ``running`` says that nothing more will come."""
    subscription = inotify.subscribe(str(log)) if options.follow else None
    text, left = _Text(options), options.limit
    try:
        with log.open("rb") as stream:
            offset = _start(stream.fileno(), options)
            while True:
                alive = running()
                data = os.pread(stream.fileno(), _BLOCK, offset)
                end = data.rfind(b"\n") + 1
                if end:
                    offset += end
                    chunk = text.of(data[:end])
                    if left is not None:
                        chunk, left = chunk[:left], left - len(chunk)
                    if chunk:
                        yield chunk
                    if left is not None and left <= 0:
                        return
                elif subscription is None or not alive:
                    return
                else:
                    await subscription.changed()
    finally:
        if subscription is not None:
            subscription.close()


def _start(fd: int, options: LogOptions) -> int:
    start = first_byte(fd)
    return start if options.tail is None else last_lines(fd, options.tail, start)


class _Text:
    """What the container wrote, from whole lines of the file."""

    def __init__(self, options: LogOptions) -> None:
        self._since, self._timestamps = options.since, options.timestamps
        self._inside = False  # of a line that came in parts

    def of(self, data: bytes) -> bytes:
        out = []
        for line in data.splitlines(keepends=True):
            entry = parse(line)
            if entry is None or (self._since is not None and entry.seconds < self._since):
                continue
            if self._timestamps and not self._inside:
                out += [entry.time, b" "]
            out.append(entry.text)
            if entry.full:
                out.append(b"\n")
            self._inside = not entry.full
        return b"".join(out)
