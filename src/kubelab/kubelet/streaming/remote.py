"""exec and attach: carries a client's channels to a session in a container and back.

In: an upgraded request and a session. Out: the response that ends with the session; the command ends when the client
leaves, an attached container goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from kubelab.kubelet.config import Object
from kubelab.kubelet.runtime.contract import LaunchError, Session
from kubelab.kubelet.streaming import spdy, websocket
from kubelab.kubelet.streaming.channels import STDOUT, Channels, Input, Wanted, failed
from kubelab.streaming.duplex import Upgraded

_CHUNK = 1 << 15
LAST_WORDS = 1.0
"""Seconds: a background process of a command may hold its pipes open; what is on its way gets so much time."""


async def serve(
    request: web.Request, wanted: Wanted, start: Callable[[], Awaitable[Session]], outcome: Callable[[int], Object]
) -> web.StreamResponse:
    """Upgrades the request, starts the session, carries it. ``outcome`` makes a Status of an exit code."""
    async with _channels(request, wanted) as (channels, response):
        try:
            session = await start()
        except LaunchError as error:
            await channels.finish(failed(f"error executing command in container: {error}"))
            return response
        await carry(channels, session, wanted, outcome)
        return response


@contextlib.asynccontextmanager
async def _channels(request: web.Request, wanted: Wanted) -> AsyncIterator[tuple[Channels, web.StreamResponse]]:
    match request.headers.get("Upgrade", "").lower():
        case "websocket":
            socket = await websocket.accept(request, websocket.PROTOCOLS)
            channels = websocket.WebSocketChannels(socket, wanted)
            await channels.greet()
            yield channels, socket
        case "spdy/3.1":
            connection, protocol = await spdy.accept(request, spdy.PROTOCOLS)
            async with connection:
                yield await spdy.SpdyChannels.open(connection, protocol, wanted), Upgraded()
        case _:
            raise web.HTTPBadRequest(text="Upgrade request required")


async def carry(channels: Channels, session: Session, wanted: Wanted, outcome: Callable[[int], Object]) -> None:
    """Until the session has ended or the client has left."""
    incoming = asyncio.create_task(_incoming(channels, session))
    outgoing = [
        asyncio.create_task(_outgoing(channels, channel, reader))
        for channel, reader in session.readers()
        if (wanted.stdout if channel == STDOUT else wanted.stderr)
    ]
    ended = asyncio.create_task(session.wait())
    try:
        await asyncio.wait({incoming, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            if outgoing:
                await asyncio.wait(outgoing, timeout=LAST_WORDS)
            await channels.finish(_outcome(ended, outcome))
    finally:
        for task in (incoming, ended, *outgoing):
            task.cancel()
        session.close()
        await asyncio.gather(incoming, ended, *outgoing, return_exceptions=True)


def _outcome(ended: asyncio.Task[int], outcome: Callable[[int], Object]) -> Object:
    try:
        return outcome(ended.result())
    except LaunchError as error:
        return failed(f"error executing command in container: {error}")


async def _incoming(channels: Channels, session: Session) -> None:
    async for event in channels.events():
        if not isinstance(event, Input):
            with contextlib.suppress(OSError):
                session.resize(event.rows, event.columns)
        elif event.data:
            await session.write(event.data)
        else:
            session.end_input()


async def _outgoing(channels: Channels, channel: int, reader: asyncio.StreamReader) -> None:
    while True:
        try:
            data = await reader.read(_CHUNK)
        except OSError:
            return  # a terminal whose last user left reads as EIO
        if not data:
            return
        await channels.send(channel, data)
