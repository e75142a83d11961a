"""The few pages that a name server has for probes and scrapes.

In: a port and a page per path. Out: an HTTP server until it is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kubelab.dns.listeners import BindError

TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Page:
    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"


_REASONS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


async def serve(address: str, pages: Mapping[str, Callable[[], Page]]) -> list[asyncio.Server]:
    """Serves on `HOST:PORT`; without a host on both families. Raises BindError."""
    host, _, port = address.rpartition(":")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            async with asyncio.timeout(TIMEOUT):
                request = await reader.readuntil(b"\r\n\r\n")
                path = (request.split(b" ", 2)[1:2] or [b""])[0].decode(errors="replace").partition("?")[0]
                page = pages.get(path, lambda: Page(404, "404 page not found\n"))()
                body = page.body.encode()
                head = f"HTTP/1.1 {page.status} {_REASONS[page.status]}\r\nContent-Type: {page.content_type}\r\n"
                writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
                await writer.drain()
        writer.close()

    try:
        # Two servers at a reload: the new one listens before the old one has gone.
        return [await asyncio.start_server(talk, host.strip("[]") or None, int(port), reuse_port=True)]
    except OSError as error:
        raise BindError(f"HTTP on {address}: {error.strerror}") from error


async def close(servers: list[asyncio.Server]) -> None:
    for server in servers:
        server.close()
        await server.wait_closed()
    servers.clear()
