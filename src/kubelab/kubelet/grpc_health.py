"""One question of the gRPC health protocol, over a hand-made HTTP/2 of a few frames.

In: address, port, service. Out: the serving status. A gRPC library would be larger than the rest of the kubelet.
Sources: gRPC health checking protocol; RFC 9113 sections 4, 6; RFC 7541 section 6.2.2 (literals, never indexed).
"""

from __future__ import annotations

import asyncio
import struct

SERVING = 1
STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK, _PADDED = 1, 4, 1, 8
_MAX_FRAME = 1 << 20


class NoHealthError(Exception):
    """The server does not answer the question."""


async def check(host: str, port: int, service: str) -> int:
    """The status number. Raises OSError, NoHealthError."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_PREFACE + _frame(_SETTINGS, 0, 0, b"") + _request(f"{host}:{port}", service))
        return await _answer(reader, writer)
    except asyncio.IncompleteReadError:
        raise NoHealthError("the server closed the connection: it does not speak gRPC") from None
    finally:
        writer.close()


def _request(authority: str, service: str) -> bytes:
    headers = {
        ":method": "POST", ":scheme": "http", ":path": "/grpc.health.v1.Health/Check", ":authority": authority,
        "content-type": "application/grpc", "te": "trailers", "user-agent": "kube-probe/1.34",
    }  # fmt: skip
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    block = b"".join(b"\x10" + _text(key) + _text(value) for key, value in headers.items())
    body = struct.pack(">BI", 0, len(message)) + message
    return _frame(_HEADERS, _END_HEADERS, 1, block) + _frame(_DATA, _END_STREAM, 1, body)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    body = b""
    while True:
        head = await reader.readexactly(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        if length > _MAX_FRAME:
            raise NoHealthError("the answer is not HTTP/2")
        payload = await reader.readexactly(length)
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _DATA:
            body += payload[1 : length - payload[0]] if flags & _PADDED else payload
        elif kind in (_RST_STREAM, _GOAWAY):
            raise NoHealthError("the server refused the request")
        if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            break
    if len(body) < 5:
        raise NoHealthError("this server does not implement the grpc health protocol (grpc.health.v1.Health)")
    message = body[5:]
    return message[1] if message[:1] == b"\x08" else 0


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def _text(text: str) -> bytes:
    raw = text.encode()
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    return b"\x7f" + _varint(len(raw) - 127) + raw


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first: as protobuf and HPACK (behind its prefix) write integers."""
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])
