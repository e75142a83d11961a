"""Reading logs: ends, times, followers."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubelab.kubelet import logs
from kubelab.kubelet.inotify import Inotify


@pytest.fixture
async def inotify() -> AsyncIterator[Inotify]:
    made = Inotify()
    yield made
    made.close()


async def read(log: Path, inotify: Inotify, running: bool = False, **options: object) -> bytes:
    chunks = logs.read(log, logs.LogOptions(**options), inotify, lambda: running)  # type: ignore[arg-type]
    return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("seed", range(8))
async def test_tail_equals_the_last_lines(tmp_path: Path, inotify: Inotify, seed: int) -> None:
    chance = random.Random(seed)
    lines = [b"x" * chance.choice([0, 1, 50, 70000]) + b"\n" for _ in range(chance.randrange(40))]
    if chance.random() < 0.5:
        lines.append(b"no end")
    log = tmp_path / "0.log"
    log.write_bytes(b"".join(lines))
    for count in (0, 1, 2, 7, 100):
        assert await read(log, inotify, tail=count) == b"".join(lines[len(lines) - min(count, len(lines)) :])


async def test_times_come_from_the_index(tmp_path: Path, inotify: Inotify) -> None:
    log = tmp_path / "0.log"
    log.write_bytes(b"one\ntwo\nthree\n")
    logs.index_path(log).write_bytes(struct.pack("=dQdQdQ", 1000, 0, 2000, 8, 3000, 14))
    stamped = (await read(log, inotify, timestamps=True)).decode().splitlines()
    assert stamped == [
        "1970-01-01T00:33:20.000000000Z one",
        "1970-01-01T00:33:20.000000000Z two",
        "1970-01-01T00:50:00.000000000Z three",
    ]
    assert await read(log, inotify, since=2500) == b"three\n"
    assert await read(log, inotify, since=1500) == b"one\ntwo\nthree\n"
    assert await read(log, inotify, since=9999) == b""


async def test_index_records_growth(tmp_path: Path, inotify: Inotify) -> None:
    log = tmp_path / "0.log"
    task = asyncio.create_task(logs.index(log, inotify))
    path = logs.index_path(log)
    async with asyncio.timeout(5):
        while not path.exists() or path.stat().st_size < 16:  # noqa: ASYNC110  # the index has no waiters
            await asyncio.sleep(0.01)
        with log.open("ab") as stream:
            stream.write(b"hello\n")
        while path.stat().st_size < 32:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.01)
    task.cancel()
    assert [size for _, size in struct.iter_unpack("=dQ", path.read_bytes())] == [0, 6]


async def test_follower_sees_lines_as_they_come_and_the_end(tmp_path: Path, inotify: Inotify) -> None:
    log = tmp_path / "0.log"
    log.write_bytes(b"one\nhalf")
    running = True
    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def follow() -> None:
        async for chunk in logs.read(log, logs.LogOptions(follow=True), inotify, lambda: running):
            seen.put_nowait(chunk)

    task = asyncio.create_task(follow())
    async with asyncio.timeout(5):
        assert await seen.get() == b"one\n"
        with log.open("ab") as stream:
            stream.write(b" and half\nlast words")
        assert await seen.get() == b"half and half\n"
        running = False
        log.open("ab").close()
        await task
    assert seen.get_nowait() == b"last words"


async def test_long_log_is_cut_and_read_from_a_whole_line(
    tmp_path: Path, inotify: Inotify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "KEEP_MIN", 1 << 16)
    monkeypatch.setattr(logs, "KEEP_MAX", 1 << 17)
    log = tmp_path / "0.log"
    text = b"".join(b"line %06d\n" % number for number in range(50000))
    log.write_bytes(text)
    task = asyncio.create_task(logs.index(log, inotify))
    async with asyncio.timeout(5):
        while log.stat().st_blocks * 512 > 1 << 18:  # noqa: ASYNC110  # cutting has no waiters
            await asyncio.sleep(0.01)
    task.cancel()
    left = await read(log, inotify)
    assert text.endswith(left)
    assert left.startswith(b"line ")
    assert len(left) > 1 << 15
    assert await read(log, inotify, tail=2) == b"line 049998\nline 049999\n"
