"""Programs that are run for their answer leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from kubelab.kubelet.answers import MOST, answer

ENVIRONMENT = {"PATH": os.environ["PATH"]}


async def shell(script: str, given: bytes | None = None, timeout: float = 20.0, merged: bool = False):
    return await answer(["/bin/sh", "-c", script], ENVIRONMENT, given=given, timeout=timeout, merged=merged)


async def test_what_it_says_and_how_it_ends() -> None:
    done = await shell("cat; echo no >&2; exit 3", b"x" * 300_000)
    assert (done.code, done.out, done.err) == (3, b"x" * 300_000, b"no\n")
    done = await shell("echo one; echo two >&2; kill -9 $$", merged=True)
    assert (done.code, done.out, done.err) == (-9, b"one\ntwo\n", b"")
    assert (await shell("cat")).out == b""


async def test_who_says_too_much_is_heard_out_and_cut_short() -> None:
    done = await shell(f"head -c {3 * MOST} /dev/zero; exit 4")
    assert (done.code, len(done.out)) == (4, MOST)


async def test_what_is_no_program_is_refused() -> None:
    with pytest.raises(FileNotFoundError):
        await answer(["/absent"], ENVIRONMENT, timeout=1)


def running(pids: Path) -> list[str]:
    words = pids.read_text().split()
    assert len(words) == 2
    return [word for word in words if Path(f"/proc/{word}").exists()]


async def test_too_long_is_the_end_of_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with pytest.raises(TimeoutError):
        await shell(f"sleep 1000 & echo $$ $! > {pids}; cat", b"", timeout=0.5)
    async with asyncio.timeout(5):
        while running(pids):  # noqa: ASYNC110 - the kernel ends them, and has no event for it
            await asyncio.sleep(0.01)


async def test_pipes_that_others_hold_are_not_waited_for(tmp_path: Path) -> None:
    begun, pids = time.monotonic(), tmp_path / "pids"
    with pytest.raises(TimeoutError):
        await shell(f"setsid sleep 8 & echo $$ $! > {pids}; wait", timeout=0.5)
    assert time.monotonic() - begun < 6


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 40, 400])
async def test_cancelled_at_any_step(tmp_path: Path, steps: int) -> None:
    """A program that waits for input it has not got is no reason to wait for it."""
    task = asyncio.create_task(shell("x=$(cat); sleep 1000", b"y" * 1000))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=10)
    assert done
    assert task.cancelled()
