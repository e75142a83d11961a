"""Programs that are run for their answer: CNI plugins, commands of probes and hooks.

In: a command, its environment, what it reads. Out: its exit code and what it said. Whoever stops waiting, or waits for
too long, leaves nothing behind: the program has a process group of its own, which is killed whole, and pipes that
others still hold are not waited for.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

MOST = 1 << 20
"""Bytes of each stream that are kept: who says more, for as long as it may run, is read and not remembered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``code`` is negative for a signal. ``out`` and ``err`` end after ``MOST`` bytes."""

    code: int
    out: bytes
    err: bytes


async def answer(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    timeout: float,
    given: bytes | None = None,
    merged: bool = False,
) -> Answer:
    """Runs a command to its end. ``merged``: what it writes to its standard error is part of ``out``. Raises OSError
    when it cannot be executed, TimeoutError."""
    pipe = asyncio.subprocess.PIPE
    starting = asyncio.ensure_future(
        asyncio.get_running_loop().subprocess_exec(
            _Talk, *command, env=environment, start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL if given is None else pipe, stdout=pipe,
            stderr=asyncio.subprocess.STDOUT if merged else pipe,
        )
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout):
            transport, talk = await asyncio.shield(starting)
            _give(transport, given)
            await talk.over.wait()
    except (TimeoutError, asyncio.CancelledError):
        await _end(starting)
        raise
    code = transport.get_returncode()
    assert code is not None, "it is over"
    transport.close()
    return Answer(code, bytes(talk.said[1]), bytes(talk.said[2]))


class _Talk(asyncio.SubprocessProtocol):
    def __init__(self) -> None:
        self.said = {1: bytearray(), 2: bytearray()}
        self.exited = asyncio.Event()
        self.over = asyncio.Event()
        """It has exited, and nobody holds its pipes any more."""

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        said = self.said[fd]
        said += data[: MOST - len(said)]

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()


def _give(transport: asyncio.SubprocessTransport, given: bytes | None) -> None:
    stream = transport.get_pipe_transport(0)
    if isinstance(stream, asyncio.WriteTransport):
        stream.write(given or b"")
        stream.close()


async def _end(starting: asyncio.Future[tuple[asyncio.SubprocessTransport, _Talk]]) -> None:
    try:
        transport, talk = await starting
    except OSError:
        return
    with suppress(ProcessLookupError):
        os.killpg(transport.get_pid(), signal.SIGKILL)
    await talk.exited.wait()
    transport.close()
