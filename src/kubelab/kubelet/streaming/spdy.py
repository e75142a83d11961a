"""exec and attach over SPDY/3.1: one stream each for error, stdin, stdout, stderr and, since v3, the terminal's size.

In: an upgraded connection on which the client opens its streams. Out: ``Channels``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from aiohttp import web

from kubelab.kubelet.config import Object
from kubelab.kubelet.streaming.channels import STDERR, STDOUT, Input, Resize, Wanted
from kubelab.kubelet.streaming.websocket import resize
from kubelab.streaming.duplex import TakenOver, switching
from kubelab.streaming.spdy import SpdyConnection, SpdyStream

PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
VERSION_HEADER = "X-Stream-Protocol-Version"
CREATION_TIMEOUT = 30.0
LINGER = 60.0
"""Seconds in which a slow client may read what is on its way to it."""


class SpdyChannels:
    """Implements ``channels.Channels``."""

    def __init__(self, connection: SpdyConnection, protocol: str, streams: dict[str, SpdyStream]) -> None:
        self._connection, self._streams = connection, streams
        self._json = protocol.startswith("v4.")
        self._events: asyncio.Queue[Input | Resize | None] = asyncio.Queue(maxsize=8)

    @classmethod
    async def open(cls, connection: SpdyConnection, protocol: str, wanted: Wanted) -> SpdyChannels:
        """Waits for the client's streams. Raises TimeoutError, ConnectionError."""
        expected = {"error"} | {name for name in ("stdin", "stdout", "stderr") if getattr(wanted, name)}
        if wanted.tty and protocol[:3] in ("v3.", "v4."):
            expected.add("resize")
        streams = dict[str, SpdyStream]()
        async with asyncio.timeout(CREATION_TIMEOUT):
            while expected - streams.keys():
                stream = await connection.accept()
                if stream is None:
                    raise ConnectionResetError("the client left before it had opened its streams")
                streams[stream.headers.get("streamtype", "")] = stream
        return cls(connection, protocol, streams)

    async def events(self) -> AsyncIterator[Input | Resize]:
        tasks = [asyncio.create_task(self._end())]
        if (stream := self._streams.get("stdin")) is not None:
            tasks.append(asyncio.create_task(self._input(stream)))
        if (stream := self._streams.get("resize")) is not None:
            tasks.append(asyncio.create_task(self._sizes(stream)))
        try:
            while (event := await self._events.get()) is not None:
                yield event
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def send(self, channel: int, data: bytes) -> None:
        stream = self._streams.get({STDOUT: "stdout", STDERR: "stderr"}.get(channel, ""))
        if stream is not None:
            with contextlib.suppress(ConnectionError):
                await stream.write(data)

    async def finish(self, outcome: Object) -> None:
        for name in ("stdin", "resize"):
            if (stream := self._streams.get(name)) is not None:
                await stream.reset()
        error = self._streams["error"]
        with contextlib.suppress(ConnectionError):
            if self._json:
                await error.write(json.dumps(outcome).encode())
            elif outcome["status"] != "Success":
                await error.write(str(outcome["message"]).encode())
        for name in ("stdout", "stderr", "error"):
            if (stream := self._streams.get(name)) is not None:
                await stream.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._connection.ended.wait(), LINGER)

    async def _end(self) -> None:
        await self._connection.ended.wait()
        await self._events.put(None)

    async def _input(self, stream: SpdyStream) -> None:
        while data := await stream.read():
            await self._events.put(Input(data))
        await self._events.put(Input(b""))

    async def _sizes(self, stream: SpdyStream) -> None:
        pending = b""
        while data := await stream.read():  # one JSON object after the other
            *whole, pending = (pending + data).replace(b"}", b"}\n").split(b"\n")
            for text in whole:
                if (size := resize(text)) is not None:
                    await self._events.put(size)


async def accept(request: web.Request, protocols: tuple[str, ...]) -> tuple[SpdyConnection, str]:
    """The handshake. Raises HTTPForbidden when the client proposes nothing that is spoken here."""
    wanted = [p.strip() for line in request.headers.getall(VERSION_HEADER, []) for p in line.split(",")]
    chosen = next((p for p in wanted if p in protocols), "")
    if wanted and not chosen:
        spoken = {f"X-Accepted-{VERSION_HEADER.removeprefix('X-')}s": ", ".join(protocols)}
        text = f"unable to upgrade: unable to negotiate protocol: client supports {wanted}, server accepts {protocols}"
        raise web.HTTPForbidden(text=text, headers=spoken)
    headers = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")]
    duplex = TakenOver(request)
    await duplex.write(switching(*headers, *([(VERSION_HEADER, chosen)] if chosen else [])))
    return SpdyConnection(duplex), chosen
