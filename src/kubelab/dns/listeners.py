"""Sockets of a name server: UDP and TCP on one address and port.

In: an address and a function from bytes to bytes. Out: a `Listener` until it is closed.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, cast

from kubelab.dns.wire import Protocol

Answer = Callable[[bytes, str, int, Protocol], Awaitable[bytes | None]]
"""(message, peer, its port, protocol) -> the bytes to send back, if any."""

IDLE_TIMEOUT = 30.0
"""Seconds after which a connection without a question is closed (RFC 7766)."""
MAX_UNDER_WAY = 1000
"""Datagrams being answered at once; what comes beyond is dropped, as by a full socket."""


class BindError(Exception):
    """An address cannot be listened on; the text names it and why."""


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, peer: tuple[Any, ...]) -> None:
        if len(self._tasks) < MAX_UNDER_WAY:
            task = asyncio.ensure_future(self._serve(data, peer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, data: bytes, peer: tuple[Any, ...]) -> None:
        response = await self._answer(data, str(peer[0]), int(peer[1]), "udp")
        if response is not None and not self._transport.is_closing():
            self._transport.sendto(response, peer)


class Listener:
    """Both sockets. `port` is the one in use."""

    def __init__(self, address: str, port: int) -> None:
        self.address, self.port = address, port
        self._stack = AsyncExitStack()
        self._connections: set[asyncio.StreamWriter] = set()

    @classmethod
    async def open(cls, address: str, port: int, answer: Answer) -> Listener:
        """Listens; port 0 lets the kernel choose. Raises BindError."""
        listener = cls(address, port)
        loop = asyncio.get_running_loop()
        try:
            stream = bound(socket.SOCK_STREAM, address, port)
            listener.port = int(stream.getsockname()[1])
            server = await asyncio.start_server(listener._connection(answer), sock=stream)
            listener._stack.push_async_callback(listener._end, server)
            datagrams = bound(socket.SOCK_DGRAM, address, listener.port)
            transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(answer), sock=datagrams)
            listener._stack.callback(transport.close)
        except OSError as error:
            await listener.close()
            raise BindError(f"DNS on {address} port {port}: {error.strerror}") from error
        return listener

    async def close(self) -> None:
        await self._stack.aclose()

    def _connection(self, answer: Answer) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._connections.add(writer)
            try:
                await converse(answer, reader, writer)
            finally:
                self._connections.discard(writer)
                writer.close()

        return serve

    async def _end(self, server: asyncio.Server) -> None:
        server.close()
        for writer in list(self._connections):
            writer.close()
        await server.wait_closed()


async def converse(answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection: messages behind two bytes of length (RFC 1035 4.2.2), until nobody asks any more."""
    peer = writer.get_extra_info("peername")
    try:
        while True:
            async with asyncio.timeout(IDLE_TIMEOUT):
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                data = await reader.readexactly(length)
            response = await answer(data, str(peer[0]), int(peer[1]), "tcp")
            if response is None:
                return
            writer.write(struct.pack("!H", len(response)) + response)
            await writer.drain()
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        return


def bound(kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    """A bound socket of one family only: `::` and `0.0.0.0` are two listeners. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, kind)
    try:
        made.setblocking(False)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
    except OSError:
        made.close()
        raise
    return made
