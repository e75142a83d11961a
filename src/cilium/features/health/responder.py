"""Answers `GET /hello`: on the node's addresses for the node, inside the health endpoint for its datapath.

In: listening sockets, already in the network namespace in which they answer. Out: HTTP/1.1 (RFC 9112), one answer per
connection. A socket belongs to the namespace in which it was opened, so the agent's own loop serves the health
endpoint too: no process of its own, and what answers is what forwards.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

import structlog

PATH = "/hello"
PATIENCE = 5.0
"""Seconds a client has for its request."""
LONGEST = 4096
IP_FREEBIND, IPV6_FREEBIND = 15, 78
"""linux/in.h, linux/in6.h: binds addresses that are not there yet, such as one whose duplicates are looked for."""

log = structlog.get_logger("health")


def listen(address: str, port: int, *, version: int) -> socket.socket:
    """A listening socket of one family in the calling thread's namespace. Raises OSError naming the address."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if version == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        else:
            made.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        made.bind((address, port))
        made.listen(64)
    except OSError as error:
        made.close()
        raise OSError(
            error.errno,
            f"health checks cannot be answered on [{address}]:{port}: {error.strerror}; free the port or set "
            "cluster-health-port",
        ) from error
    return made


class Responder:
    """Serves sockets until closed."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []

    async def serve(self, sockets: Iterable[socket.socket]) -> None:
        for listening in sockets:
            self._servers.append(await asyncio.start_server(_answer, sock=listening, limit=LONGEST))

    def close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            request = await reader.readuntil(b"\r\n\r\n")
            writer.write(response(request))
            await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError):
        pass  # whoever asked has gone, or asked nothing
    finally:
        writer.close()


def response(request: bytes) -> bytes:
    """The whole answer to a request's head."""
    words = request.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        status, body = "400 Bad Request", ""
    elif words[1].split(b"?", 1)[0] != PATH.encode():
        status, body = "404 Not Found", ""
    elif words[0] not in (b"GET", b"HEAD"):
        status, body = "405 Method Not Allowed", ""
    else:
        status, body = "200 OK", "hello\n"
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return (head + ("" if words[0] == b"HEAD" else body)).encode()
