"""A connection as two byte streams, whatever it is made of.

In: upgraded HTTP requests, sockets, WebSockets. Out: ``Duplex``. Writers wait while the other side does not read.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Protocol

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

LIMIT = 1 << 18
"""Bytes read ahead before the sender is made to wait."""


class Duplex(Protocol):
    """``read`` gives b"" at the end; writing to a side that is gone raises ConnectionError."""

    async def read(self) -> bytes: ...
    async def write(self, data: bytes) -> None: ...
    async def close(self) -> None: ...


class StreamDuplex:
    """Over asyncio's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        return await self._reader.read(1 << 16)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class WebSocketDuplex:
    """Over the binary messages of a WebSocket; their borders mean nothing."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        async for message in self._socket:
            if message.type is WSMsgType.BINARY and message.data:
                return bytes(message.data)
        return b""

    async def write(self, data: bytes) -> None:
        await self._socket.send_bytes(data)

    async def close(self) -> None:
        await self._socket.close()


class TakenOver:
    """Over the connection of an HTTP request that was upgraded to something aiohttp does not know."""

    def __init__(self, request: web.Request) -> None:
        protocol: Any = request.protocol
        self._protocol = protocol
        self._chunks: list[bytes] = []
        self._size = 0
        self._ended = False
        self._wake = asyncio.Event()
        self._protocol.set_parser(self)  # typed as Any: it wants what can be fed, not a reader of WebSockets

    # -- what aiohttp calls, as it calls the parser of a WebSocket

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._chunks.append(bytes(data))
        self._size += len(data)
        if self._size > LIMIT and self._protocol.transport is not None:
            self._protocol.transport.pause_reading()
        self._wake.set()
        return False, b""

    def feed_eof(self) -> None:
        self._ended = True
        self._wake.set()

    # -- Duplex

    async def read(self) -> bytes:
        while not self._chunks:
            if self._ended:
                return b""
            self._wake.clear()
            await self._wake.wait()
        data = b"".join(self._chunks)
        self._chunks.clear()
        if self._size > LIMIT and self._protocol.transport is not None:
            self._protocol.transport.resume_reading()
        self._size = 0
        return data

    async def write(self, data: bytes) -> None:
        if self._protocol.transport is None:
            raise ConnectionResetError("the client is gone")
        self._protocol.transport.write(data)
        await self._protocol._drain_helper()

    async def close(self) -> None:
        if self._protocol.transport is not None:
            self._protocol.transport.close()


class Upgraded(web.StreamResponse):
    """What a handler returns after it took a connection over: nothing more is written."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        self.force_close()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing."""


def switching(*headers: tuple[str, str]) -> bytes:
    """The head of the answer that ends HTTP on a connection."""
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode()


async def relay(one: Duplex, other: Duplex) -> None:
    """Copies both ways until one side has ended; closes both."""

    async def copy(source: Duplex, sink: Duplex) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read():
                await sink.write(data)

    ways = [asyncio.create_task(copy(one, other)), asyncio.create_task(copy(other, one))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        await other.close()
        await one.close()
