"""Logs in the format of CRI runtimes."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from kubelab.kubelet.cri_logs import parse, read
from kubelab.kubelet.inotify import Inotify
from kubelab.kubelet.logs import LogOptions

LINES = [
    b"2026-01-02T03:04:05.000000001Z stdout F one\n",
    b"2026-01-02T03:04:06.1Z stderr P tw\n",
    b"2026-01-02T03:04:06.2Z stderr F o\n",
    b"no line of a log\n",
    b"2026-01-02T03:04:07+00:00 stdout F:more \n",
    b"2026-01-02T03:04:08Z stdout F three \xff\n",
]


async def shown(path: Path, options: LogOptions) -> bytes:
    inotify = Inotify()
    try:
        return b"".join([chunk async for chunk in read(path, options, inotify, lambda: False)])
    finally:
        inotify.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "0.log"
    path.write_bytes(b"".join(LINES) + b"2026-01-02T03:04:09Z stdout F not yet who")
    return path


async def test_parts_are_joined_and_what_is_no_line_is_left_out(log: Path) -> None:
    assert await shown(log, LogOptions()) == b"one\ntwo\n\nthree \xff\n"
    assert await shown(log, LogOptions(follow=True)) == b"one\ntwo\n\nthree \xff\n"


async def test_times_tail_since_and_limit(log: Path) -> None:
    stamped = await shown(log, LogOptions(timestamps=True))
    assert stamped.splitlines()[:2] == [b"2026-01-02T03:04:05.000000001Z one", b"2026-01-02T03:04:06.1Z two"]
    since = datetime.fromisoformat("2026-01-02T03:04:07+00:00").timestamp()
    assert await shown(log, LogOptions(since=since)) == b"\nthree \xff\n"
    assert await shown(log, LogOptions(limit=5)) == b"one\nt"
    assert (await shown(log, LogOptions(tail=2))).endswith(b"three \xff\n")
    assert await shown(log, LogOptions(tail=0)) == b""


def test_an_entry() -> None:
    entry = parse(LINES[4])
    assert entry is not None
    assert (entry.text, entry.full) == (b"", True)
    assert parse(b"2026 nowhere F x") is None
