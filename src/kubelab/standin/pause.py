"""A process that waits for its end, and reaps what it inherits: registry.k8s.io/pause."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows the Python half of signal only
import posix

from kubelab.standin.server import heed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def reap(number: int, frame: object) -> None:
    try:
        while posix.waitpid(-1, posix.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def wait() -> NoReturn:
    """Until SIGTERM or SIGINT."""
    heed()
    _signal.signal(_signal.SIGCHLD, reap)
    while True:
        _signal.pause()


def main(arguments: list[str]) -> NoReturn:
    wait()
