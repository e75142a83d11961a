"""gRPC's health protocol on HTTP/2 without cleartext upgrade: every service is SERVING, any other method UNIMPLEMENTED.

In: bytes of a connection that began with HTTP/2's preface. Out: bytes to send. A check that names a service may be left
to somebody else, who says later how it ended. Header blocks are searched for the two paths as every client writes them,
plain or in HPACK's Huffman code, instead of being decoded.
Source: RFC 9113 (frames), RFC 7541 (literals without indexing), grpc/doc/health-checking.md.
"""

from __future__ import annotations

from kubelab import grpc_health
from kubelab.grpc_health import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    literal,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_NAME = 256

_CHECK = (b"\x1c/grpc.health.v1.Health/Check", b'\x95bk+"\xf3\x94t&u\xfb\x85|e\x1d\t\x9d\x8b\xd3\x94\x9d\x7f')
_WATCH = (b"\x1c/grpc.health.v1.Health/Watch", b"\x94bk+\"\xf3\x94t&u\xfb\x85|e\x1d\t\x9d\x8eCI'")
"""Each behind its length, plain and in HPACK's Huffman code."""
_NO_TABLE = b"\0\1\0\0\0\0"
"""SETTINGS_HEADER_TABLE_SIZE 0: the client writes every path out."""
_SERVING, _NOT_SERVING = b"\0\0\0\0\2\x08\x01", b"\0\0\0\0\2\x08\x02"
"""One message, not compressed, of two bytes: HealthCheckResponse with its status."""
_STATUS_200 = b"\x88"


class Http2:
    """A connection after its preface."""

    def __init__(self, ask: Callable[[int, str], None] | None = None) -> None:
        """``ask`` is given the stream and the name of a service that is checked; the answer comes by `tell`."""
        self.output = frame(SETTINGS, 0, 0, _NO_TABLE)
        self.closing = False
        self._ask = ask
        self._bodies: dict[int, bytes] = {}
        self._frames = grpc_health.Frames()
        self._paths: dict[int, str] = {}  # by stream whose request has begun
        self._block = b""

    def received(self, data: bytes) -> None:
        try:
            frames = self._frames.of(data)
        except grpc_health.NoHealthError:
            self.closing = True
            return
        for whole in frames:
            if not self.closing:
                self._frame(*whole)

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self.output += frame(SETTINGS, ACK, 0)
        elif kind == PING and not flags & ACK:
            self.output += frame(PING, ACK, 0, payload)
        elif kind == GOAWAY:
            self.closing = True
        elif kind in (HEADERS, CONTINUATION):
            self._block += payload
            if flags & END_HEADERS:
                self._paths[stream] = self._method(self._block)
                self._block = b""
            if kind == HEADERS and flags & END_STREAM:
                self._answer(stream)
        elif kind == DATA:
            if payload:
                window = len(payload).to_bytes(4, "big")
                self.output += frame(WINDOW_UPDATE, 0, 0, window) + frame(WINDOW_UPDATE, 0, stream, window)
                self._bodies[stream] = (self._bodies.get(stream, b"") + payload)[:MAX_NAME]
            if flags & END_STREAM:
                self._answer(stream)

    @staticmethod
    def _method(block: bytes) -> str:
        for name, spellings in (("check", _CHECK), ("watch", _WATCH)):
            if any(spelling in block for spelling in spellings):
                return name
        return ""

    def _answer(self, stream: int) -> None:
        method, body = self._paths.pop(stream, ""), self._bodies.pop(stream, b"")
        if not method:
            trailers = _STATUS_200 + literal(b"content-type", b"application/grpc") + literal(b"grpc-status", b"12")
            self.output += frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers)
            return
        if method == "check" and self._ask is not None and (name := _service(body)):
            self._ask(stream, name)
            return
        self.tell(stream, good=True, last=method == "check")  # a watch goes on

    def tell(self, stream: int, *, good: bool, last: bool = True) -> None:
        """The answer to a check."""
        head = _STATUS_200 + literal(b"content-type", b"application/grpc")
        self.output += frame(HEADERS, END_HEADERS, stream, head)
        self.output += frame(DATA, 0, stream, _SERVING if good else _NOT_SERVING)
        if last:
            self.output += frame(HEADERS, END_HEADERS | END_STREAM, stream, literal(b"grpc-status", b"0"))


def _service(body: bytes) -> str:
    """Of a HealthCheckRequest behind its length."""
    if len(body) < 7 or body[5] != 0x0A:
        return ""
    return body[7 : 7 + body[6]].decode(errors="replace")
