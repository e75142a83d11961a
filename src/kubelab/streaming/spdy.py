"""A SPDY/3.1 connection as streams: the server's side of exec, attach and port-forward, and the client's.

In: a ``Duplex``. Out: streams in the order they were opened; each is read, written, closed or reset on its own.
"""

from __future__ import annotations

import asyncio
import contextlib

from kubelab.streaming.duplex import LIMIT, Duplex
from kubelab.streaming.spdy_frames import (
    REFUSED_STREAM,
    Data,
    Decoder,
    Encoder,
    Frame,
    GoAway,
    Headers,
    MoreHeaders,
    Ping,
    RstStream,
    SpdyError,
    SynReply,
    SynStream,
)  # fmt: skip

CHUNK = 1 << 15


class SpdyStream:
    """One stream. ``read`` gives b"" at its end, also when it or the connection was reset."""

    def __init__(self, connection: SpdyConnection, number: int, headers: Headers) -> None:
        self.number, self.headers = number, headers
        self.was_reset = False
        self._connection = connection
        self._chunks: list[bytes] = []
        self.size = 0
        self._ended = self._deaf = self._finished = False
        self._wake = asyncio.Event()

    async def read(self) -> bytes:
        while not self._chunks:
            if self._ended:
                return b""
            self._wake.clear()
            await self._wake.wait()
        data = b"".join(self._chunks)
        self._chunks.clear()
        self.size = 0
        self._connection.taken()
        return data

    async def write(self, data: bytes) -> None:
        """Raises ConnectionError when nobody is there any more."""
        if self.was_reset:
            raise ConnectionResetError(f"stream {self.number} was reset")
        for place in range(0, len(data), CHUNK):
            await self._connection.send(Data(self.number, data[place : place + CHUNK]))

    async def close(self) -> None:
        """No more will be written; reading goes on."""
        if not self._finished and not self.was_reset:
            self._finished = True
            with contextlib.suppress(ConnectionError):
                await self._connection.send(Data(self.number, b"", fin=True))

    async def reset(self) -> None:
        """Neither side has anything more to say."""
        if not self.was_reset:
            self.end(reset=True)
            with contextlib.suppress(ConnectionError):
                await self._connection.send(RstStream(self.number))

    def ignore(self) -> None:
        """What comes from now on is thrown away."""
        self._deaf = True
        self._chunks.clear()
        self.size = 0
        self._connection.taken()

    def feed(self, data: bytes) -> None:
        if data and not self._deaf and not self._ended:
            self._chunks.append(data)
            self.size += len(data)
            self._wake.set()

    def end(self, *, reset: bool = False) -> None:
        self._ended = True
        self.was_reset = self.was_reset or reset
        self._wake.set()


class SpdyConnection:
    """Reads frames in a task of its own between ``async with``; ``accept`` gives what the peer opens."""

    def __init__(self, duplex: Duplex, *, server: bool = True) -> None:
        self._duplex = duplex
        self._encoder, self._decoder = Encoder(), Decoder()
        self._streams: dict[int, SpdyStream] = {}
        self._opened: asyncio.Queue[SpdyStream | None] = asyncio.Queue()
        self._next = 2 if server else 1
        self._room = asyncio.Event()
        self._order = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()

    async def __aenter__(self) -> SpdyConnection:
        self._reader = asyncio.create_task(self._read(), name="SPDY")
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ConnectionError):
            await self.send(GoAway(max(self._streams, default=0)))
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self._duplex.close()

    async def accept(self) -> SpdyStream | None:
        """The next stream that the peer opens, already replied to; None when no more will come."""
        return await self._opened.get()

    async def open(self, headers: Headers) -> SpdyStream:
        """A stream of ours."""
        stream = SpdyStream(self, self._next, headers)
        self._next += 2
        self._streams[stream.number] = stream
        await self.send(SynStream(stream.number, headers))
        return stream

    async def send(self, frame: Frame) -> None:
        async with self._order:  # headers are compressed in the order in which they are sent
            await self._duplex.write(self._encoder.encode(frame))

    def taken(self) -> None:
        """Somebody read: there may be room for more."""
        self._room.set()

    def forget(self, *streams: SpdyStream) -> None:
        for stream in streams:
            self._streams.pop(stream.number, None)

    async def _read(self) -> None:
        try:
            with contextlib.suppress(SpdyError, ConnectionError):
                while data := await self._duplex.read():
                    for frame in self._decoder.feed(data):
                        await self._handle(frame)
                    while any(stream.size > LIMIT for stream in self._streams.values()):
                        self._room.clear()
                        await self._room.wait()
        finally:
            self.ended.set()
            for stream in self._streams.values():
                stream.end(reset=True)
            self._opened.put_nowait(None)

    async def _handle(self, frame: Frame) -> None:
        match frame:
            case SynStream(number, headers, fin):
                await self._accept(number, headers, fin)
            case Data(number, data, fin):
                if (stream := self._streams.get(number)) is not None:
                    stream.feed(data)
                    if fin:
                        stream.end()
            case RstStream(number):
                if (stream := self._streams.pop(number, None)) is not None:
                    stream.end(reset=True)
            case SynReply(number, _, fin) | MoreHeaders(number, _, fin):
                if fin and (stream := self._streams.get(number)) is not None:
                    stream.end()
            case Ping(number):
                if number % 2 != self._next % 2:  # theirs; the answer to ours needs none
                    await self.send(Ping(number))
            case GoAway():
                self._opened.put_nowait(None)

    async def _accept(self, number: int, headers: Headers, fin: bool) -> None:
        if number % 2 == self._next % 2 or number in self._streams or number == 0:
            await self.send(RstStream(number or 1, REFUSED_STREAM))
            return
        stream = self._streams[number] = SpdyStream(self, number, headers)
        if fin:
            stream.end()
        await self.send(SynReply(number))
        self._opened.put_nowait(stream)
