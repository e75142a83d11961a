"""Streams of a command, or of a container, from the runtime's streaming server: SPDY, as kubelets have always asked it.

In: the URL that the runtime gave for Exec or Attach. Out: ``contract.Session``.
Source: Kubernetes' remote command protocol, version v4.channel.k8s.io.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Coroutine
from typing import Any, cast
from urllib.parse import urlsplit

from kubelab.kubelet.config import Object
from kubelab.kubelet.runtime.contract import LaunchError
from kubelab.kubelet.runtime.process.sessions import STDERR, STDOUT
from kubelab.streaming.duplex import StreamDuplex
from kubelab.streaming.spdy import SpdyConnection, SpdyStream

PROTOCOL = "v4.channel.k8s.io"
UNKNOWN = 1
"""The exit code of a command that ended without a word about it."""


class StreamSession:
    """Implements ``contract.Session``."""

    def __init__(self, connection: SpdyConnection) -> None:
        self._connection = connection
        self._streams: dict[str, SpdyStream] = {}
        self._readers: list[tuple[int, asyncio.StreamReader]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._outcome: asyncio.Task[bytes] | None = None

    @classmethod
    async def open(cls, url: str, *, tty: bool, stdin: bool) -> StreamSession:
        """Raises OSError; what runs behind the URL starts with this."""
        session = cls(SpdyConnection(await _upgrade(url), server=False))
        await session._connection.__aenter__()
        outputs = [(STDOUT, "stdout")] if tty else [(STDOUT, "stdout"), (STDERR, "stderr")]
        wanted = ["error", *(["stdin"] if stdin else []), *(kind for _, kind in outputs), *(["resize"] if tty else [])]
        for kind in wanted:
            session._streams[kind] = await session._connection.open({"streamtype": kind})
        for number, kind in outputs:
            session._readers.append((number, session._reader(session._streams[kind])))
        session._outcome = asyncio.create_task(_all(session._streams["error"]))
        return session

    def readers(self) -> list[tuple[int, asyncio.StreamReader]]:
        return self._readers

    async def write(self, data: bytes) -> None:
        if (stream := self._streams.get("stdin")) is not None:
            with contextlib.suppress(ConnectionError):
                await stream.write(data)

    def end_input(self) -> None:
        if (stream := self._streams.get("stdin")) is not None:
            self._later(stream.close())

    def resize(self, rows: int, columns: int) -> None:
        if (stream := self._streams.get("resize")) is not None:
            self._later(stream.write(json.dumps({"Width": columns, "Height": rows}).encode() + b"\n"))

    async def wait(self) -> int:
        assert self._outcome is not None
        return exit_code(await asyncio.shield(self._outcome))

    def close(self) -> None:
        """The runtime ends a command whose streams are gone; of a container it takes no notice."""
        self._later(self._connection.__aexit__())

    def _reader(self, stream: SpdyStream) -> asyncio.StreamReader:
        reader, gate = asyncio.StreamReader(), _Gate()
        reader.set_transport(cast(asyncio.Transport, gate))
        self._later(_pump(stream, reader, gate))
        return reader

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Gate:
    """What a reader believes is its transport: it closes when enough was read ahead."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    def pause_reading(self) -> None:
        self.open.clear()

    def resume_reading(self) -> None:
        self.open.set()


async def _pump(stream: SpdyStream, reader: asyncio.StreamReader, gate: _Gate) -> None:
    try:
        while data := await stream.read():
            reader.feed_data(data)
            await gate.open.wait()
    finally:
        reader.feed_eof()


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(ConnectionError):
        await work


async def _all(stream: SpdyStream) -> bytes:
    said = b""
    while data := await stream.read():
        said += data
    return said


def exit_code(said: bytes) -> int:
    """Of a Status object, which comes on the error stream at the end. Raises LaunchError when nothing was started."""
    try:
        status: Object = json.loads(said)
    except ValueError:
        return UNKNOWN
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or []
    codes = [cause["message"] for cause in causes if cause.get("reason") == "ExitCode"]
    if not codes:
        raise LaunchError(str(status.get("message") or "the runtime did not say how the command ended"))
    return int(codes[0])


async def _upgrade(url: str) -> StreamDuplex:
    place = urlsplit(url)
    if place.hostname is None or place.port is None:
        raise OSError(f"streaming URL {url}: no host and port in it")
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    lines = [f"POST {place.path} HTTP/1.1", f"Host: {place.netloc}", "Connection: Upgrade", "Upgrade: SPDY/3.1",
             f"X-Stream-Protocol-Version: {PROTOCOL}", "", ""]  # fmt: skip
    writer.write("\r\n".join(lines).encode())
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise OSError(f"streaming URL {url}: {head.splitlines()[0].decode(errors='replace')}")
    except BaseException as error:
        writer.close()
        if isinstance(error, asyncio.IncompleteReadError):
            raise OSError(f"streaming URL {url}: the server hung up") from error
        raise
    return StreamDuplex(reader, writer)
