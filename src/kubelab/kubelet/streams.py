"""exec over a WebSocket: the channel protocols v4 and v5 of Kubernetes' remote commands.

In: messages whose first byte is the channel (0 stdin, 4 terminal size, 255 close of a channel, v5 only).
Out: channels 1 stdout, 2 stderr, and 3: one Status object at the end, with the exit code.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import termios
from dataclasses import dataclass

from aiohttp import WSMsgType, web

from kubelab.kubelet import execution
from kubelab.kubelet.launch import ContainerSpec

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


async def execute(
    socket: web.WebSocketResponse, pid: int, spec: ContainerSpec, command: list[str], wanted: Wanted
) -> None:
    """Runs the command and carries its streams until it ends or the client leaves, which kills it."""
    argv = execution.argv(pid, spec, command)
    environment = {**spec.environment, "TERM": "xterm"} if wanted.tty else spec.environment
    session = await (_Terminal.open if wanted.tty else _Pipes.open)(argv, environment)
    incoming = asyncio.create_task(_incoming(socket, session, wanted))
    outgoing = [
        asyncio.create_task(_outgoing(socket, channel, reader))
        for channel, reader in session.readers()
        if (wanted.stdout if channel == STDOUT else wanted.stderr)
    ]
    ended = asyncio.create_task(session.process.wait())
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
        session.kill()
        await asyncio.gather(incoming, ended, *outgoing, return_exceptions=True)
        session.close()


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


async def _incoming(socket: web.WebSocketResponse, session: _Pipes | _Terminal, wanted: Wanted) -> None:
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


class _Pipes:
    """A command on three pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def open(cls, argv: list[str], environment: dict[str, str]) -> _Pipes:
        pipe = asyncio.subprocess.PIPE
        return cls(
            await asyncio.create_subprocess_exec(
                *argv, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
            )
        )

    def readers(self) -> list[tuple[int, asyncio.StreamReader]]:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        return [(STDOUT, self.process.stdout), (STDERR, self.process.stderr)]

    async def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self.process.stdin.write(data)
            await self.process.stdin.drain()

    def end_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def resize(self, rows: int, columns: int) -> None:
        """Pipes have no size."""

    def kill(self) -> None:
        _kill_group(self.process)

    def close(self) -> None:
        self.end_input()


class _Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, process: asyncio.subprocess.Process, primary: int, reader: asyncio.StreamReader,
                 transport: asyncio.ReadTransport) -> None:  # fmt: skip
        self.process, self._primary, self._reader, self._transport = process, primary, reader, transport

    @classmethod
    async def open(cls, argv: list[str], environment: dict[str, str]) -> _Terminal:
        primary, secondary = pty.openpty()

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        process = await asyncio.create_subprocess_exec(
            *argv, stdin=secondary, stdout=secondary, stderr=secondary, env=environment,
            start_new_session=True, preexec_fn=take_terminal,
        )  # fmt: skip
        os.close(secondary)
        reader = asyncio.StreamReader()
        pipe = os.fdopen(os.dup(primary), "rb", 0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        return cls(process, primary, reader, transport)

    def readers(self) -> list[tuple[int, asyncio.StreamReader]]:
        return [(STDOUT, self._reader)]

    async def write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._primary, data) :]
            except BlockingIOError:
                await asyncio.sleep(0.01)

    def end_input(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._primary, b"\x04")  # end of transmission, what a user types

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._primary, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def kill(self) -> None:
        _kill_group(self.process)

    def close(self) -> None:
        self._transport.close()
        os.close(self._primary)


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
