"""How a long-running process begins and ends: SIGTERM is a wish to stop, an error in any task is the end of all."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine, Sequence
from importlib.metadata import version
from typing import Any

import structlog

from cilium.settings import Settings, SettingsError, from_flags

log = structlog.get_logger("process")


def read_settings(name: str, argv: Sequence[str]) -> Settings:
    """Settings of a process from its command line. `--help` and `--version` answer and exit, mistakes exit with 1."""
    if {"-h", "--help"}.intersection(argv):
        from cilium.settings.reference import usage

        print(usage(name))
        sys.exit(0)
    if "--version" in argv:
        print(f"{name} {version('cilium')}")
        sys.exit(0)
    try:
        return from_flags(argv)
    except SettingsError as error:
        sys.exit(f"{name}: {error}")


def run_process(name: str, body: Coroutine[Any, Any, None], *, refusals: tuple[type[Exception], ...] = ()) -> None:
    """Runs `body` until it ends, fails (exit status 1) or the process is told to stop (0).

    `refusals`: errors whose words say all that an operator needs; others are defects and come with their traceback.
    """
    try:
        asyncio.run(_until_stopped(body))
    except BaseExceptionGroup as group:
        for error in _leaves(group):
            _report("task failed", name, error, refusals)
        sys.exit(1)
    except Exception as error:
        _report("failed", name, error, refusals)
        sys.exit(1)


def _report(event: str, name: str, error: BaseException, refusals: tuple[type[Exception], ...]) -> None:
    if isinstance(error, refusals):
        log.error("refused", process=name, error=str(error))
    else:
        log.error(event, process=name, error=f"{type(error).__name__}: {error}", exc_info=error)


async def _until_stopped(body: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(body)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped")


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
