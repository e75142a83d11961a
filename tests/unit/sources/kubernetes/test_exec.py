"""How a command in a container ended, from what the server says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cilium.sources.kubernetes.exec import ExecResult, execute

EXITED = {
    "status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated with exit code 28",
    "details": {"causes": [{"reason": "ExitCode", "message": "28"}]},
}  # fmt: skip
BROKEN = {"status": "Failure", "message": "Internal error: no such program", "details": {"causes": [{"message": "x"}]}}


class Channel:
    """A client whose server sends these messages."""

    def __init__(self, *messages: bytes) -> None:
        self._messages = messages

    async def channel(self, path: str, *, parameters: list[tuple[str, str]]) -> AsyncIterator[bytes]:
        assert path == "/api/v1/namespaces/ns/pods/p/exec"
        assert [value for name, value in parameters if name == "command"] == ["curl", "-x"]
        for message in self._messages:
            yield message


def run(*messages: bytes) -> ExecResult:
    client: Any = Channel(*messages)
    return asyncio.run(execute(client, namespace="ns", pod="p", container="c", command=["curl", "-x"]))


@pytest.mark.parametrize(
    ("outcome", "error", "code"),
    [
        ({"status": "Success"}, "", 0),
        (EXITED, "command terminated with exit code 28", 28),
        (BROKEN, "Internal error: no such program", None),
    ],
)
def test_the_outcome_has_the_exit_status(outcome: dict[str, Any], error: str, code: int | None) -> None:
    done = run(b"\x01a", b"\x02problem", b"\x01b", b"\x03" + json.dumps(outcome).encode())
    assert done == ExecResult(b"ab", b"problem", error, code)


def test_a_stream_that_breaks_has_none() -> None:
    assert run(b"\x01a") == ExecResult(b"a", b"", "the server closed the stream without an outcome", None)
