"""Sockets of the world outside: web servers and a name server, each on given addresses of both families.

In: addresses, zones. Out: open asyncio servers until `close`. HTTP is spoken by the stand-in's `Conversation`, DNS by
`zone.answer`, over UDP and TCP.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import cast

import structlog

from kubelab.dns.listeners import BindError, Listener
from kubelab.dns.wire import Protocol, Query, decode, encode
from kubelab.external.zone import Zone, answer
from kubelab.standin.conversation import Conversation, Identity, plain_address

log = structlog.get_logger(__name__)


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


def respond(zones: Sequence[Zone], data: bytes, *, protocol: Protocol) -> bytes | None:
    """The bytes that answer a query; None when nothing can be said."""
    query = decode(data, protocol=protocol)
    return encode(query, answer(zones, query)) if isinstance(query, Query) else query


class World:
    """All servers. `async with World() as world: await world.web(...); await world.names(...)`."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> World:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def web(self, name: str, address: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Serve HTTP as `name`, with `tls` HTTPS; port 0 lets the kernel choose. Returns the port. Raises BindError."""
        identity = Identity({b"KUBELAB_POD": name.encode(), b"KUBELAB_NODE": b"external"})
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(lambda: WebProtocol(identity), address, port, backlog=1024, ssl=tls)
        except OSError as error:
            raise BindError(f"HTTP on {address} port {port}: {error.strerror}") from error
        self._stack.push_async_callback(self._end, server)
        chosen = int(server.sockets[0].getsockname()[1])
        log.info("serving HTTP" if tls is None else "serving HTTPS", name=name, address=address, port=chosen)
        return chosen

    async def names(self, zones: Sequence[Zone], address: str, port: int) -> int:
        """Serve DNS over UDP and TCP on one port. Returns it. Raises BindError."""

        async def serve(data: bytes, _peer: str, _port: int, protocol: Protocol) -> bytes | None:
            return respond(zones, data, protocol=protocol)

        listener = await Listener.open(address, port, serve)
        self._stack.push_async_callback(listener.close)
        chosen = listener.port
        log.info("serving DNS", zones=[str(zone.origin) for zone in zones], address=address, port=chosen)
        return chosen

    @staticmethod
    async def _end(server: asyncio.Server) -> None:
        server.close()
        await server.wait_closed()
