"""port-forward: pairs of streams (data, error) to ports of a pod.

In: SPDY/3.1 streams, directly or inside a WebSocket (SPDY/3.1+portforward.k8s.io), or WebSocket channels
(v4.channel.k8s.io: two per port of the query). Out: connections to the pod's loopback; errors in words on the error
stream.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import struct
from collections.abc import Awaitable, Callable

from aiohttp import WSMsgType, web

from kubelab.kubelet.streaming import spdy, websocket
from kubelab.streaming.duplex import Upgraded, WebSocketDuplex
from kubelab.streaming.spdy import SpdyConnection, SpdyStream

PROTOCOL = "portforward.k8s.io"
TUNNEL = f"SPDY/3.1+{PROTOCOL}"
CHANNELS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io")

Dial = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def serve(request: web.Request, pod: str, uid: str, dial: Dial) -> web.StreamResponse:
    """Upgrades the request and forwards until the client leaves."""
    match request.headers.get("Upgrade", "").lower():
        case "websocket":
            if TUNNEL not in websocket.offered(request):
                return await _channels(request, pod, uid, dial)
            socket = await websocket.accept(request, (TUNNEL,))
            async with SpdyConnection(WebSocketDuplex(socket)) as connection:
                await _Forwarder(pod, uid, dial).run(connection)
            return socket
        case "spdy/3.1":
            connection, _ = await spdy.accept(request, (PROTOCOL,))
            async with connection:
                await _Forwarder(pod, uid, dial).run(connection)
            return Upgraded()
    raise web.HTTPBadRequest(text="Upgrade request required")


def explain(port: int, pod: str, uid: str, error: Exception) -> str:
    """What a client is told of a port that nobody listens on."""
    return f"error forwarding port {port} to pod {pod}, uid {uid}: failed to connect to localhost:{port}: {error}"


class _Forwarder:
    """The pairs of one SPDY connection."""

    def __init__(self, pod: str, uid: str, dial: Dial) -> None:
        self._pod, self._uid, self._dial = pod, uid, dial
        self._waiting: dict[str, SpdyStream] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, connection: SpdyConnection) -> None:
        try:
            while (stream := await connection.accept()) is not None:
                if (pair := self._pair(stream)) is not None:
                    task = asyncio.create_task(self._forward(connection, *pair), name="port-forward")
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
                elif self._kind(stream) not in ("data", "error"):
                    await stream.reset()
            await connection.ended.wait()
        finally:
            for task in list(self._running):
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    def _kind(self, stream: SpdyStream) -> str:
        return stream.headers.get("streamtype", "")

    def _pair(self, stream: SpdyStream) -> tuple[SpdyStream, SpdyStream] | None:
        """(data, error) once both are there."""
        kind = self._kind(stream)
        if kind not in ("data", "error"):
            return None
        # Old clients give no id: their error stream comes first, the data stream is the next one.
        request = stream.headers.get("requestid") or str(stream.number - (2 if kind == "data" else 0))
        other = self._waiting.pop(request, None)
        if other is None:
            self._waiting[request] = stream
            return None
        return (stream, other) if kind == "data" else (other, stream)

    async def _forward(self, connection: SpdyConnection, data: SpdyStream, errors: SpdyStream) -> None:
        text = data.headers.get("port", "")
        try:
            port = int(text)
            reader, writer = await self._dial(port)
        except (OSError, ValueError) as error:
            number = int(text) if text.isdigit() else 0
            with contextlib.suppress(ConnectionError):
                await errors.write(explain(number, self._pod, self._uid, error).encode())
            await errors.close()
            await data.reset()
        else:
            await _join(data, reader, writer)
            await data.close()
            await errors.close()
        connection.forget(data, errors)


async def _join(data: SpdyStream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the pod has said its last word."""

    async def inwards() -> None:
        with contextlib.suppress(OSError):
            while chunk := await data.read():
                writer.write(chunk)
                await writer.drain()
            if data.was_reset:
                writer.transport.abort()
            elif writer.can_write_eof():
                writer.write_eof()

    task = asyncio.create_task(inwards())
    try:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(1 << 16):
                await data.write(chunk)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        writer.close()


async def _channels(request: web.Request, pod: str, uid: str, dial: Dial) -> web.StreamResponse:
    """The ports of the query, a pair of channels each; every channel's first message is its port, little-endian."""
    ports = [text for value in request.query.getall("port", []) for text in value.split(",")]
    if not ports or not all(text.isdigit() and 0 < int(text) < 65536 for text in ports):
        raise web.HTTPBadRequest(text=f'query parameter "port": want one number of a port or more, not {ports}')
    socket = await websocket.accept(request, CHANNELS)
    text = "base64" in (socket.ws_protocol or "")

    async def send(channel: int, data: bytes) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            if text:
                await socket.send_str(chr(ord("0") + channel) + base64.b64encode(data).decode())
            else:
                await socket.send_bytes(bytes([channel]) + data)

    writers = dict[int, asyncio.StreamWriter]()

    async def outwards(channel: int, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(1 << 15):
                await send(channel, chunk)

    tasks = []
    for index, port in enumerate(map(int, ports)):
        for channel in (2 * index, 2 * index + 1):
            await send(channel, struct.pack("<H", port))
        try:
            reader, writers[2 * index] = await dial(port)
            tasks.append(asyncio.create_task(outwards(2 * index, reader)))
        except OSError as error:
            await send(2 * index + 1, explain(port, pod, uid, error).encode())
    incoming = asyncio.create_task(_incoming(socket, writers, text=text))
    try:
        if tasks:
            all_said = asyncio.create_task(asyncio.wait(tasks))
            await asyncio.wait({all_said, incoming}, return_when=asyncio.FIRST_COMPLETED)
            all_said.cancel()
    finally:
        for task in (*tasks, incoming):
            task.cancel()
        await asyncio.gather(*tasks, incoming, return_exceptions=True)
        for writer in writers.values():
            writer.close()
        await socket.close()
    return socket


async def _incoming(socket: web.WebSocketResponse, writers: dict[int, asyncio.StreamWriter], *, text: bool) -> None:
    async for message in socket:
        if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT) or not message.data:
            continue
        raw = message.data.encode() if isinstance(message.data, str) else message.data
        channel = raw[0] - ord("0") if text else raw[0]
        if (writer := writers.get(channel)) is not None:
            with contextlib.suppress(OSError):
                writer.write(base64.b64decode(raw[1:]) if text else raw[1:])
                await writer.drain()
