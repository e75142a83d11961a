"""Commands with streams: on three pipes, or on a pseudo-terminal.

In: a command line and its environment. Out: ``contract.Session``.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios

STDOUT, STDERR = 1, 2


class Pipes:
    """A command on three pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def open(cls, argv: list[str], environment: dict[str, str]) -> Pipes:
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

    async def wait(self) -> int:
        return await self.process.wait()

    def close(self) -> None:
        _kill_group(self.process)
        self.end_input()


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, process: asyncio.subprocess.Process, primary: int, reader: asyncio.StreamReader,
                 transport: asyncio.ReadTransport) -> None:  # fmt: skip
        self.process, self._primary, self._reader, self._transport = process, primary, reader, transport

    @classmethod
    async def open(cls, argv: list[str], environment: dict[str, str]) -> Terminal:
        primary, secondary = pty.openpty()

        process = await asyncio.create_subprocess_exec(
            *argv, stdin=secondary, stdout=secondary, stderr=secondary, env=environment,
            start_new_session=True,
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

    async def wait(self) -> int:
        return await self.process.wait()

    def close(self) -> None:
        _kill_group(self.process)
        self._transport.close()
        os.close(self._primary)


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
