"""Runs a command in a container, as `kubectl exec` does: WebSocket, subprotocol v5.channel.k8s.io.

In: a client, pod, container, command. Out: what it printed. Source: the remote command protocol; the first byte of
every message is the channel: 1 stdout, 2 stderr, 3 the outcome as a Status.
"""

from __future__ import annotations

import msgspec

from cilium.sources.kubernetes.client import Client

STDOUT, STDERR, OUTCOME = 1, 2, 3


class ExecResult(msgspec.Struct, frozen=True):
    stdout: bytes
    stderr: bytes
    error: str
    """Why it failed, in the server's words; empty for exit status 0."""
    code: int | None = 0
    """The exit status; None if the command has none, since it was not run to its end."""


async def execute(client: Client, *, namespace: str, pod: str, container: str, command: list[str]) -> ExecResult:
    """Raises ApiError and Unreachable if the command could not be started."""
    parameters = [("command", word) for word in command]
    parameters += [("container", container), ("stdout", "true"), ("stderr", "true")]
    streams: dict[int, bytearray] = {STDOUT: bytearray(), STDERR: bytearray(), OUTCOME: bytearray()}
    async for message in client.channel(f"/api/v1/namespaces/{namespace}/pods/{pod}/exec", parameters=parameters):
        if message and message[0] in streams:
            streams[message[0]] += message[1:]
    return ExecResult(bytes(streams[STDOUT]), bytes(streams[STDERR]), *_outcome(bytes(streams[OUTCOME])))


def _outcome(document: bytes) -> tuple[str, int | None]:
    """What failed, and the exit status."""
    if not document:
        return "the server closed the stream without an outcome", None
    status = msgspec.json.decode(document)
    if status.get("status") == "Success":
        return "", 0
    causes = (status.get("details") or {}).get("causes") or []
    code = next((cause["message"] for cause in causes if cause.get("reason") == "ExitCode"), "")
    return str(status.get("message") or status), int(code) if code.isdecimal() else None
