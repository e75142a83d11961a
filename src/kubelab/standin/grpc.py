"""gRPC's health protocol on HTTP/2 without cleartext upgrade: every service is SERVING, any other method UNIMPLEMENTED.

In: bytes of a connection that began with HTTP/2's preface. Out: bytes to send. Header blocks are searched for the two
paths as every client writes them, plain or in HPACK's Huffman code, instead of being decoded.
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

_CHECK = (b"\x1c/grpc.health.v1.Health/Check", b'\x95bk+"\xf3\x94t&u\xfb\x85|e\x1d\t\x9d\x8b\xd3\x94\x9d\x7f')
_WATCH = (b"\x1c/grpc.health.v1.Health/Watch", b"\x94bk+\"\xf3\x94t&u\xfb\x85|e\x1d\t\x9d\x8eCI'")
"""Each behind its length, plain and in HPACK's Huffman code."""
_NO_TABLE = b"\0\1\0\0\0\0"
"""SETTINGS_HEADER_TABLE_SIZE 0: the client writes every path out."""
_SERVING = b"\0\0\0\0\2\x08\x01"
"""One message, not compressed, of two bytes: HealthCheckResponse with status 1."""
_STATUS_200 = b"\x88"


class Http2:
    """A connection after its preface."""

    def __init__(self) -> None:
        self.output = frame(SETTINGS, 0, 0, _NO_TABLE)
        self.closing = False
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
            if flags & END_STREAM:
                self._answer(stream)

    @staticmethod
    def _method(block: bytes) -> str:
        for name, spellings in (("check", _CHECK), ("watch", _WATCH)):
            if any(spelling in block for spelling in spellings):
                return name
        return ""

    def _answer(self, stream: int) -> None:
        method = self._paths.pop(stream, "")
        kind = literal(b"content-type", b"application/grpc")
        if not method:
            trailers = _STATUS_200 + kind + literal(b"grpc-status", b"12")
            self.output += frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers)
            return
        self.output += frame(HEADERS, END_HEADERS, stream, _STATUS_200 + kind) + frame(DATA, 0, stream, _SERVING)
        if method == "check":  # a watch goes on
            self.output += frame(HEADERS, END_HEADERS | END_STREAM, stream, literal(b"grpc-status", b"0"))
