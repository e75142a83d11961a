"""The streams of exec and attach, whichever protocol carries them.

In: what a client sends. Out: input, its end, sizes of its terminal; output and at last how the command ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from kubelab.kubelet.config import Object

STDIN, STDOUT, STDERR, ERROR, RESIZE = 0, 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which streams the client asked for."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Wanted:
        """From the kubelet's parameters (input, output, error, tty) or the API's (stdin, stdout, stderr, tty)."""
        tty = flag(query, "tty")
        stderr = flag(query, "stderr", "error") and not tty  # a terminal has one output
        return cls(flag(query, "stdin", "input"), flag(query, "stdout", "output"), stderr, tty)


@dataclass(frozen=True, slots=True)
class Input:
    """For the command's stdin; empty: it ends here."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    """The client's terminal has this size now."""

    rows: int
    columns: int


class Channels(Protocol):
    """One client's streams."""

    def events(self) -> AsyncIterator[Input | Resize]:
        """What the client sends; ends when it leaves."""

    async def send(self, channel: int, data: bytes) -> None:
        """Output. A client that is gone is no error."""

    async def finish(self, outcome: Object) -> None:
        """The command ended so (a Status object); the client is told and the connection ends."""


def flag(query: Mapping[str, str], *names: str) -> bool:
    """A boolean query parameter under any of its names."""
    return any(query.get(name, "").lower() in ("1", "true") for name in names)


SUCCESS: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


def exited(code: int) -> Object:
    """The Status that tells a client how the command ended."""
    if code == 0:
        return SUCCESS
    number = code if code > 0 else 128 - code
    return {
        **SUCCESS,
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with exit code {number}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(number)}]},
    }


def failed(text: str) -> Object:
    """The Status of a command that could not be started."""
    message = f"Internal error occurred: {text}"
    cause = {"details": {"causes": [{"message": text}]}}
    return {**SUCCESS, "status": "Failure", "reason": "InternalError", "message": message, "code": 500, **cause}
