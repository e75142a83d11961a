"""exec and attach over a WebSocket: the subprotocols channel.k8s.io to v5.channel.k8s.io, binary and base64.

In: messages whose first byte is the channel (0 stdin, 4 terminal size; v5: 255 ends the channel named after it).
Out: messages of channels 1 stdout, 2 stderr, and at the end one of channel 3: a Status, before v4 an error's text.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections.abc import AsyncIterator

from aiohttp import WSMsgType, web

from kubelab.kubelet.config import Object
from kubelab.kubelet.streaming.channels import ERROR, RESIZE, STDERR, STDIN, STDOUT, Input, Resize, Wanted

PROTOCOLS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
)
CLOSE = 255


class WebSocketChannels:
    """Implements ``channels.Channels``."""

    def __init__(self, socket: web.WebSocketResponse, wanted: Wanted) -> None:
        self._socket, self._wanted = socket, wanted
        protocol = socket.ws_protocol or ""
        self._base64 = "base64" in protocol
        self._closes, self._json = protocol.startswith("v5."), protocol[:3] in ("v4.", "v5.")

    async def greet(self) -> None:
        """An empty message on the first output: the client learns that it is connected."""
        channel = STDOUT if self._wanted.stdout else STDERR if self._wanted.stderr else ERROR
        await self.send(channel, b"")

    async def events(self) -> AsyncIterator[Input | Resize]:
        async for message in self._socket:
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT) or not message.data:
                continue
            raw = message.data.encode() if isinstance(message.data, str) else message.data
            channel, data = raw[0], raw[1:]
            if self._base64:
                channel -= ord("0")
                try:
                    data = base64.b64decode(data, validate=True)
                except binascii.Error:
                    continue
            if channel == STDIN and self._wanted.stdin:
                if data:
                    yield Input(data)
            elif channel == RESIZE:
                if (size := resize(data)) is not None:
                    yield size
            elif channel == CLOSE and self._closes and data[:1] == bytes([STDIN]):
                yield Input(b"")

    async def send(self, channel: int, data: bytes) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            if self._base64:
                await self._socket.send_str(str(channel) + base64.b64encode(data).decode())
            else:
                await self._socket.send_bytes(bytes([channel]) + data)

    async def finish(self, outcome: Object) -> None:
        if self._json:
            await self.send(ERROR, json.dumps(outcome).encode())
        elif outcome["status"] != "Success":
            await self.send(ERROR, str(outcome["message"]).encode())
        await self._socket.close()


def resize(data: bytes) -> Resize | None:
    """``{"Width": columns, "Height": rows}``; None for anything else."""
    try:
        size = json.loads(data)
        return Resize(int(size["Height"]), int(size["Width"]))
    except (ValueError, KeyError, TypeError):
        return None


def offered(request: web.Request) -> list[str]:
    """The subprotocols that the client proposes."""
    return [p.strip() for p in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if p.strip()]


async def accept(request: web.Request, protocols: tuple[str, ...]) -> web.WebSocketResponse:
    """The handshake. Raises HTTPBadRequest when the client proposes nothing that is spoken here."""
    wanted = offered(request)
    if wanted and not set(wanted) & set(protocols):
        spoken = " ".join(protocols)
        raise web.HTTPBadRequest(text=f"requested protocol(s) are not supported: {wanted}; supports [{spoken}]")
    socket = web.WebSocketResponse(
        protocols=[p for p in wanted if p in protocols], max_msg_size=0, autoclose=False, timeout=2.0
    )
    await socket.prepare(request)
    return socket
