"""One agent per node: two would write the same maps, each pruning what the other wants."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AgentRunningError(Exception):
    """Another agent has this node."""


@contextmanager
def node_lock(state: Path) -> Iterator[None]:
    """Holds `state`/agent.pid locked. The kernel lets go of it when the process ends, however it ends.

    A lock of the process (fcntl(2), F_SETLK): children do not inherit it. Raises AgentRunningError, OSError.
    """
    state.mkdir(parents=True, exist_ok=True)
    path = state / "agent.pid"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            owner = os.read(file, 32).decode("ascii", "replace").strip() or "unknown"
            raise AgentRunningError(
                f"an agent (process {owner}) already serves this node: {path} is locked; stop it, or give this one "
                "another --state-dir in a network namespace of its own"
            ) from None
        os.truncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(file)
