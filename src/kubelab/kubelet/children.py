"""Subprocesses that end with all that they started: each leads a session of its own.

In: a command line. Out: the subprocess; nothing of it once it was ended, or was cancelled while it began.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import Any

LEFT = 5.0
"""Seconds for pipes to close: only what has left the session can hold them still."""


async def start(*argv: str, **options: Any) -> asyncio.subprocess.Process:
    """`options`: those of `asyncio.create_subprocess_exec`. Raises OSError."""
    starting = asyncio.create_task(asyncio.create_subprocess_exec(*argv, start_new_session=True, **options))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with suppress(OSError):
            await end(await starting)
        raise


async def end(process: asyncio.subprocess.Process) -> None:
    """Kills the whole group: a child that held a pipe would let `wait` wait for as long as it lives."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), LEFT)
