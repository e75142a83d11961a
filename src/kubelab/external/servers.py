"""Sockets of the world outside: web servers and a name server, each on given addresses of both families.

In: addresses, zones. Out: open asyncio servers until `close`. HTTP is spoken by the stand-in's `Conversation`, DNS by
`zone.answer`, over UDP and TCP.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import cast

import structlog

from kubelab.external.dns_message import MessageError, decode, encode, refuse
from kubelab.external.zone import Zone, answer
from kubelab.standin.conversation import Conversation, Identity, plain_address

log = structlog.get_logger(__name__)

IDLE_TIMEOUT = 30.0
"""Seconds after which a DNS connection without a question is closed (RFC 7766)."""


class BindError(Exception):
    """An address cannot be listened on; the text names it and why."""


class WebProtocol(asyncio.Protocol):
    """One connection to a web server of the world."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self._talk = Conversation((plain_address(peer[0]), peer[1]), own[1], self._identity)

    def data_received(self, data: bytes) -> None:
        self._talk.received(data)
        self._flush()

    def eof_received(self) -> bool:
        self._talk.received(b"")
        self._flush()
        return True  # closed by _flush, after what is still to be sent

    def _flush(self) -> None:
        if self._talk.output:
            self._transport.write(self._talk.output)
            self._talk.output = b""
        if self._talk.closing:
            self._transport.close()


def respond(zones: Sequence[Zone], data: bytes, *, udp: bool) -> bytes | None:
    """The bytes that answer a query; None when nothing can be said."""
    try:
        query = decode(data)
    except MessageError as error:
        return refuse(error)
    return encode(query, answer(zones, query), limit=query.size if udp else None)


class NameProtocol(asyncio.DatagramProtocol):
    """DNS over UDP."""

    def __init__(self, zones: Sequence[Zone]) -> None:
        self._zones = zones

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        response = respond(self._zones, data, udp=True)
        if response is not None:
            self._transport.sendto(response, peer)


async def _names_over_tcp(zones: Sequence[Zone], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """DNS over TCP: messages behind two bytes of length (RFC 1035 4.2.2)."""
    try:
        while True:
            async with asyncio.timeout(IDLE_TIMEOUT):
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                data = await reader.readexactly(length)
            response = respond(zones, data, udp=False)
            if response is None:
                return
            writer.write(struct.pack("!H", len(response)) + response)
            await writer.drain()
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


class World:
    """All servers. `async with World() as world: await world.web(...); await world.names(...)`."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> World:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def web(self, name: str, address: str, port: int) -> int:
        """Serve HTTP as `name`; port 0 lets the kernel choose. Returns the port. Raises BindError."""
        identity = Identity({b"KUBELAB_POD": name.encode(), b"KUBELAB_NODE": b"external"})
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(lambda: WebProtocol(identity), address, port, backlog=1024)
        except OSError as error:
            raise BindError(f"HTTP on {address} port {port}: {error.strerror}") from error
        self._stack.push_async_callback(self._end, server)
        chosen = int(server.sockets[0].getsockname()[1])
        log.info("serving HTTP", name=name, address=address, port=chosen)
        return chosen

    async def names(self, zones: Sequence[Zone], address: str, port: int) -> int:
        """Serve DNS over UDP and TCP on one port. Returns it. Raises BindError."""
        loop = asyncio.get_running_loop()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _names_over_tcp(zones, reader, writer)

        try:
            server = await asyncio.start_server(serve, address, port)
            chosen = int(server.sockets[0].getsockname()[1])
            self._stack.push_async_callback(self._end, server)
            transport, _ = await loop.create_datagram_endpoint(
                lambda: NameProtocol(zones), local_addr=(address, chosen)
            )
        except OSError as error:
            raise BindError(f"DNS on {address} port {port}: {error.strerror}") from error
        self._stack.callback(transport.close)
        log.info("serving DNS", zones=[zone.origin for zone in zones], address=address, port=chosen)
        return chosen

    @staticmethod
    async def _end(server: asyncio.Server) -> None:
        server.close()
        await server.wait_closed()
