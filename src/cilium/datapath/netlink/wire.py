"""The wire format of rtnetlink (RFC 3549, linux/netlink.h): messages and attributes to bytes and back. No I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")
_TYPE_MASK = 0x3FFF  # the two upper bits mark nested and network byte order
_NESTED = 0x8000
_MESSAGE_ATTRIBUTE = 1  # NLMSGERR_ATTR_MSG
_CAPPED, _ACK_TLVS = 0x100, 0x200  # NLM_F_*, of ERROR messages only


class Type(IntEnum):
    """Message types that we send or read."""

    ERROR = 2
    DONE = 3
    NEWLINK = 16
    DELLINK = 17
    GETLINK = 18
    SETLINK = 19
    NEWADDR = 20
    DELADDR = 21
    GETADDR = 22
    NEWROUTE = 24
    DELROUTE = 25
    GETROUTE = 26


class Flag(IntFlag):
    """Request and reply flags; REPLACE and EXCL share bits with DUMP."""

    REQUEST = 1
    MULTI = 2
    ACK = 4
    DUMP_INTERRUPTED = 0x10
    REPLACE = 0x100
    EXCL = 0x200
    CREATE = 0x400
    DUMP = 0x300


@dataclass(frozen=True, slots=True)
class Message:
    """One message without its header."""

    type: int
    flags: int
    sequence: int
    body: bytes


def attribute(kind: int, value: bytes | int | str) -> bytes:
    """One attribute; integers become 32 bits in the host's order, strings end in a zero byte."""
    if isinstance(value, int):
        value = struct.pack("=I", value)
    elif isinstance(value, str):
        value = value.encode() + b"\0"
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(attributes))


def encode(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A message of a `Type`, or of another netlink protocol's, padded to the alignment that a batch needs."""
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


def decode(data: bytes) -> Iterator[Message]:
    """The messages of one datagram."""
    position = 0
    while position + HEADER.size <= len(data):
        length, kind, flags, sequence, _port = HEADER.unpack_from(data, position)
        if length < HEADER.size:
            return
        yield Message(kind, flags, sequence, data[position + HEADER.size : position + length])
        position += length + (-length % 4)


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Values by attribute type; of a repeated one the last."""
    found: dict[int, bytes] = {}
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = data[offset + 4 : offset + length]
        offset += length + (-length % 4)
    return found


def u32(value: bytes | None) -> int:
    """An attribute's number; 0 when it is absent."""
    return int.from_bytes(value, "little") if value else 0


def error_of(message: Message) -> tuple[int, str]:
    """(errno, the kernel's own words) of an ERROR message; errno 0 acknowledges."""
    number = -_ERROR.unpack_from(message.body)[0]
    if not message.flags & _ACK_TLVS:
        return number, ""
    # The request's header follows, and unless capped its body too.
    request_length = HEADER.unpack_from(message.body, 4)[0]
    start = 4 + (HEADER.size if message.flags & _CAPPED else request_length + (-request_length % 4))
    words = attributes(message.body, start).get(_MESSAGE_ATTRIBUTE, b"")
    return number, words.rstrip(b"\0").decode(errors="replace")
