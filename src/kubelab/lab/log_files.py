"""Log files of a lab's daemons, read as they are or followed.

In: names of processes: `control-plane`, `external`, `kubelet-<node>`. Out: lines, each with the name of its process.
A line without a time, such as one of a traceback, is as old as the one before it.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

POLL = 0.2
"""Seconds between looks at files that are followed."""
_TIME = re.compile(r"timestamp=(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?)Z ")


def last(paths: Mapping[str, Path], tail: int | None, since: datetime | None = None) -> Iterator[tuple[str, str]]:
    """The last `tail` lines of each file (None: all) that are not older than `since`, one file after the other."""
    for name, path in paths.items():
        if path.exists():
            with path.open(errors="replace") as stream:
                yield from _lines(name, stream, tail, since)


def _lines(name: str, stream: TextIO, tail: int | None, since: datetime | None) -> Iterator[tuple[str, str]]:
    """What is there now; the stream stands behind it."""
    for line in deque(_from(stream, since), maxlen=tail):
        yield name, line.rstrip("\n")


def _from(lines: Iterable[str], since: datetime | None) -> Iterator[str]:
    young = since is None
    for line in lines:
        if since is not None and (found := _TIME.match(line)):
            young = datetime.fromisoformat(found[1]).replace(tzinfo=UTC) >= since
        if young:
            yield line


def follow(paths: Mapping[str, Path], tail: int | None, since: datetime | None = None) -> Iterator[tuple[str, str]]:
    """The same, and then what is written, for as long as the files are there. One that comes later is read in full."""
    with ExitStack() as stack:
        streams: dict[str, TextIO] = {}
        parts: dict[str, str] = {}
        for name, path in paths.items():
            if path.exists():
                streams[name] = stack.enter_context(path.open(errors="replace"))
                yield from _lines(name, streams[name], tail, since)
        while True:
            idle = True
            for name, path in paths.items():
                if name not in streams and path.exists():
                    streams[name] = stack.enter_context(path.open(errors="replace"))
                if name in streams and (text := streams[name].read()):
                    idle = False
                    *lines, parts[name] = (parts.get(name, "") + text).split("\n")
                    yield from ((name, line) for line in lines)
            if idle and not any(path.exists() for path in paths.values()):
                return  # the lab was taken down
            if idle:
                time.sleep(POLL)
