"""SPDY/3.1 frames: bytes to frames and back, without any I/O.

In: bytes as they come. Out: frames; SpdyError for what is none. Source: SPDY protocol draft 3.1, sections 2.2 and 2.6.
What Kubernetes' clients and runtimes speak (spdystream) has no flow control: windows are neither kept nor updated,
updates of others are read and passed over; TCP slows a fast sender down.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from kubelab.streaming.spdy_dictionary import DICTIONARY

VERSION: Final = 3
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN: Final = 1
CANCEL, REFUSED_STREAM, PROTOCOL_ERROR = 5, 3, 1
MAX_FRAME: Final = 1 << 24
MAX_HEADERS: Final = 1 << 16
_HEAD = struct.Struct(">II")
_WORD = struct.Struct(">I")

Headers = Mapping[str, str]
"""Names in lower case; several values of one name are separated by NUL."""


class SpdyError(Exception):
    """What came is no SPDY."""


@dataclass(frozen=True, slots=True)
class Data:
    stream: int
    data: bytes
    fin: bool = False


@dataclass(frozen=True, slots=True)
class SynStream:
    stream: int
    headers: Headers
    fin: bool = False
    priority: int = 0


@dataclass(frozen=True, slots=True)
class SynReply:
    stream: int
    headers: Headers = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True, slots=True)
class MoreHeaders:
    stream: int
    headers: Headers
    fin: bool = False


@dataclass(frozen=True, slots=True)
class RstStream:
    stream: int
    status: int = CANCEL


@dataclass(frozen=True, slots=True)
class Ping:
    number: int


@dataclass(frozen=True, slots=True)
class GoAway:
    last_stream: int
    status: int = 0


Frame = Data | SynStream | SynReply | MoreHeaders | RstStream | Ping | GoAway


class Encoder:
    """Frames to bytes; one per connection and direction, because headers are compressed over all of them."""

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(zdict=DICTIONARY)

    def encode(self, frame: Frame) -> bytes:
        match frame:
            case Data(stream, data, fin):
                return _HEAD.pack(stream, (FIN if fin else 0) << 24 | len(data)) + data
            case SynStream(stream, headers, fin, priority):
                fixed = struct.pack(">IIBB", stream, 0, priority << 5, 0)
                return _control(SYN_STREAM, fixed + self._block(headers), fin)
            case SynReply(stream, headers, fin):
                return _control(SYN_REPLY, _WORD.pack(stream) + self._block(headers), fin)
            case MoreHeaders(stream, headers, fin):
                return _control(HEADERS, _WORD.pack(stream) + self._block(headers), fin)
            case RstStream(stream, status):
                return _control(RST_STREAM, _HEAD.pack(stream, status))
            case Ping(number):
                return _control(PING, _WORD.pack(number))
            case GoAway(last, status):
                return _control(GOAWAY, _HEAD.pack(last, status))

    def _block(self, headers: Headers) -> bytes:
        parts = [_WORD.pack(len(headers))]
        for name, value in headers.items():
            for text in (name.lower(), value):
                raw = text.encode()
                parts += [_WORD.pack(len(raw)), raw]
        return self._zlib.compress(b"".join(parts)) + self._zlib.flush(zlib.Z_SYNC_FLUSH)


def _control(kind: int, payload: bytes, fin: bool = False) -> bytes:
    return _HEAD.pack(0x80000000 | VERSION << 16 | kind, (FIN if fin else 0) << 24 | len(payload)) + payload


class Decoder:
    """Bytes to frames; keeps what is not yet a whole frame."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(zdict=DICTIONARY)
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now. Raises SpdyError, after which nothing more can be read."""
        self._pending += data
        frames: list[Frame] = []
        start = 0
        while len(self._pending) - start >= _HEAD.size:
            first, second = _HEAD.unpack_from(self._pending, start)
            end = start + _HEAD.size + (second & 0xFFFFFF)
            if end > len(self._pending):
                break
            payload = bytes(self._pending[start + _HEAD.size : end])
            start = end
            if (frame := self._frame(first, bool(second >> 24 & FIN), payload)) is not None:
                frames.append(frame)
        del self._pending[:start]
        return frames

    def _frame(self, first: int, fin: bool, payload: bytes) -> Frame | None:
        if not first & 0x80000000:
            if first == 0:
                raise SpdyError("data for stream 0")
            return Data(first, payload, fin)
        version, kind = first >> 16 & 0x7FFF, first & 0xFFFF
        if version != VERSION:
            raise SpdyError(f"version {version} of SPDY: 3 is spoken here")
        try:
            return self._control(kind, fin, payload)
        except struct.error as error:
            raise SpdyError(f"control frame {kind} of {len(payload)} bytes is too short") from error

    def _control(self, kind: int, fin: bool, payload: bytes) -> Frame | None:
        match kind:
            case 1:
                stream, _, priority, _ = struct.unpack_from(">IIBB", payload)
                return SynStream(stream & 0x7FFFFFFF, self._block(payload[10:]), fin, priority >> 5)
            case 2:
                return SynReply(_WORD.unpack_from(payload)[0], self._block(payload[4:]), fin)
            case 3:
                return RstStream(*_HEAD.unpack_from(payload))
            case 6:
                return Ping(_WORD.unpack_from(payload)[0])
            case 7:
                return GoAway(*_HEAD.unpack_from(payload))
            case 8:
                return MoreHeaders(_WORD.unpack_from(payload)[0], self._block(payload[4:]), fin)
        return None  # settings, windows and what is unknown mean nothing here

    def _block(self, compressed: bytes) -> dict[str, str]:
        try:
            raw = self._zlib.decompress(compressed, MAX_HEADERS)
        except zlib.error as error:
            raise SpdyError(f"headers: {error}") from error
        if self._zlib.unconsumed_tail:
            raise SpdyError(f"headers of more than {MAX_HEADERS} bytes")
        (count,) = _WORD.unpack_from(raw)
        headers, place, words = dict[str, str](), _WORD.size, list[str]()
        for _ in range(count):
            words.clear()
            for _ in range(2):
                (length,) = _WORD.unpack_from(raw, place)
                place += _WORD.size + length
                if place > len(raw):
                    raise SpdyError("headers end in the middle of a value")
                words.append(raw[place - length : place].decode(errors="replace"))
            headers[words[0]] = words[1]
        return headers
