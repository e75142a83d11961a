"""exec over a WebSocket: the channel protocols v4 and v5 of Kubernetes' remote commands.

In: messages whose first byte is the channel (0 stdin, 4 terminal size, 255 close of a channel, v5 only).
Out: channels 1 stdout, 2 stderr, and 3: one Status object at the end, with the exit code.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass

from aiohttp import WSMsgType, web

from kubelab.kubelet.runtime.contract import Running, Session

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_CHUNK = 1 << 15


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which streams the client asked for."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


async def execute(socket: web.WebSocketResponse, container: Running, command: list[str], wanted: Wanted) -> None:
    """Runs the command and carries its streams until it ends or the client leaves, which kills it."""
    session = await container.open(command, tty=wanted.tty)
    incoming = asyncio.create_task(_incoming(socket, session, wanted))
    outgoing = [
        asyncio.create_task(_outgoing(socket, channel, reader))
        for channel, reader in session.readers()
        if (wanted.stdout if channel == STDOUT else wanted.stderr)
    ]
    ended = asyncio.create_task(session.wait())
    try:
        await asyncio.wait({incoming, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            # A background process of the command may hold the pipes open: what is on its way gets a moment.
            await asyncio.wait(outgoing, timeout=1.0) if outgoing else None
            await _send(socket, ERROR, json.dumps(status(ended.result(), command)).encode())
            await socket.close()
    finally:
        for task in (incoming, ended, *outgoing):
            task.cancel()
        session.close()
        await asyncio.gather(incoming, ended, *outgoing, return_exceptions=True)


def status(code: int, command: list[str]) -> dict[str, object]:
    """The Status object that tells a client how the command ended."""
    if code == 0:
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    number = code if code > 0 else 128 - code
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with exit code {number}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(number)}]},
    }


async def _incoming(socket: web.WebSocketResponse, session: Session, wanted: Wanted) -> None:
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel == STDIN and wanted.stdin:
            await session.write(data)
        elif channel == RESIZE:
            with contextlib.suppress(ValueError, KeyError, OSError):
                size = json.loads(data)
                session.resize(int(size["Height"]), int(size["Width"]))
        elif channel == CLOSE and data[:1] == b"\x00":
            session.end_input()


async def _outgoing(socket: web.WebSocketResponse, channel: int, reader: asyncio.StreamReader) -> None:
    while True:
        try:
            data = await reader.read(_CHUNK)
        except OSError:
            return  # a terminal whose last user left reads as EIO
        if not data:
            return
        await _send(socket, channel, data)


async def _send(socket: web.WebSocketResponse, channel: int, data: bytes) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):
        await socket.send_bytes(bytes([channel]) + data)
