"""DNS messages: bytes to questions, answers to bytes. Sans-IO.

In: a query as it came off the wire. Out: `Query`, or `MessageError` saying what is wrong; `encode` writes responses.
Source: RFC 1035 (messages), RFC 3596 (AAAA), RFC 6891 (EDNS).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

HEADER = struct.Struct("!6H")
QUERY_TAIL = struct.Struct("!2H")
RECORD_TAIL = struct.Struct("!2HIH")
PLAIN_SIZE = 512
"""Bytes in a UDP response to those who do not ask for more by EDNS."""
OWN_SIZE = 1232
"""What this side offers: fits any path without fragments."""
POINTER = 0xC0

QR, AA, TC, RD = 1 << 15, 1 << 10, 1 << 9, 1 << 8


class Type(IntEnum):
    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    TXT = 16
    AAAA = 28
    OPT = 41
    ANY = 255


class Rcode(IntEnum):
    NOERROR = 0
    FORMERR = 1
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5


class MessageError(ValueError):
    """Not a message that can be answered from its content. `id` is known unless even that is missing."""

    def __init__(self, text: str, *, id: int | None = None) -> None:  # noqa: A002 - the field's name in RFC 1035
        super().__init__(text)
        self.id = id


@dataclass(frozen=True)
class Query:
    """One question. `size` is the largest UDP response that the asker takes."""

    id: int
    opcode: int
    name: str
    """Fully qualified, as written by the asker: case is kept for the echo, compared without it."""
    type: int
    klass: int
    recursion_desired: bool
    edns: bool
    size: int


@dataclass(frozen=True)
class Record:
    """A resource record of class IN. `data` is an address, a name (NS, CNAME), text (TXT) or SOA's seven fields."""

    name: str
    type: Type
    ttl: int
    data: IPv4Address | IPv6Address | str | tuple[str, str, int, int, int, int, int]


@dataclass(frozen=True)
class Response:
    rcode: Rcode
    authoritative: bool = False
    answers: Sequence[Record] = ()
    authority: Sequence[Record] = ()


def decode(data: bytes) -> Query:
    """Raises MessageError for what is no query with one question."""
    if len(data) < HEADER.size:
        raise MessageError("shorter than a header")
    number, flags, questions, answers, authorities, additionals = HEADER.unpack_from(data)
    if flags & QR:
        raise MessageError("a response, not a query")
    if questions != 1:
        raise MessageError(f"{questions} questions instead of one", id=number)
    try:
        name, offset = read_name(data, HEADER.size)
        kind, klass = QUERY_TAIL.unpack_from(data, offset)
        offset += QUERY_TAIL.size
        edns, size = False, PLAIN_SIZE
        for _ in range(answers + authorities + additionals):
            _, offset = read_name(data, offset)
            record, offered, _, length = RECORD_TAIL.unpack_from(data, offset)
            offset += RECORD_TAIL.size + length
            if record == Type.OPT:
                edns, size = True, max(PLAIN_SIZE, offered)
        if offset > len(data):
            raise MessageError("ends inside a record", id=number)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise MessageError("ends early or holds a bad name", id=number) from error
    except MessageError as error:
        raise MessageError(str(error), id=number) from None
    return Query(number, flags >> 11 & 0xF, name, kind, klass, bool(flags & RD), edns, size)


def read_name(data: bytes, offset: int) -> tuple[str, int]:
    """(name with a final dot, offset behind it). Pointers only ever lead backwards, so they end (RFC 1035 4.1.4)."""
    labels: list[str] = []
    behind = -1
    limit = offset
    while True:
        length = data[offset]
        if length & POINTER == POINTER:
            target = (length & 0x3F) << 8 | data[offset + 1]
            behind = offset + 2 if behind < 0 else behind
            if target >= limit:
                raise MessageError("a name points forwards")
            offset = limit = target
            continue
        if length & POINTER:
            raise MessageError("a label of unknown kind")
        offset += 1
        if length == 0:
            return ".".join([*labels, ""]) or ".", offset if behind < 0 else behind
        if offset + length > len(data):
            raise MessageError("ends inside a name")
        labels.append(data[offset : offset + length].decode("ascii"))
        offset += length
        if sum(len(label) + 1 for label in labels) > 254:
            raise MessageError("a name is longer than 255 bytes")


def write_name(name: str) -> bytes:
    """Raises ValueError for labels that are empty or longer than 63 bytes."""
    labels = [label.encode("ascii") for label in name.rstrip(".").split(".") if name.rstrip(".")]
    if any(not 1 <= len(label) <= 63 for label in labels):
        raise ValueError(f"{name!r} is no domain name")
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _data(record: Record) -> bytes:
    match record.data:
        case IPv4Address() | IPv6Address() as address:
            return address.packed
        case (str(server), str(mailbox), *numbers):
            return write_name(server) + write_name(mailbox) + struct.pack("!5I", *numbers)
        case str(text) if record.type == Type.TXT:
            raw = text.encode()
            parts = [raw[start : start + 255] for start in range(0, len(raw), 255)] or [b""]
            return b"".join(bytes([len(part)]) + part for part in parts)
        case str(name):
            return write_name(name)
    raise TypeError(f"{record.type.name} record with {record.data!r}")


def _record(record: Record) -> bytes:
    data = _data(record)
    return write_name(record.name) + RECORD_TAIL.pack(record.type, 1, record.ttl, len(data)) + data


def encode(query: Query, response: Response, *, limit: int | None = None) -> bytes:
    """The response's bytes. Over `limit` bytes (UDP) records are left out and TC tells to come by TCP."""
    question = write_name(query.name) + QUERY_TAIL.pack(query.type, query.klass)
    option = b"\0" + RECORD_TAIL.pack(Type.OPT, OWN_SIZE, 0, 0) if query.edns else b""
    answers = [_record(record) for record in response.answers]
    authority = [_record(record) for record in response.authority]
    flags = QR | query.opcode << 11 | response.rcode
    flags |= AA if response.authoritative else 0
    flags |= RD if query.recursion_desired else 0
    size = HEADER.size + len(question) + len(option) + sum(map(len, answers)) + sum(map(len, authority))
    if limit is not None and size > limit:
        answers, authority, flags = [], [], flags | TC
    header = HEADER.pack(query.id, flags, 1, len(answers), len(authority), 1 if option else 0)
    return header + question + b"".join(answers) + b"".join(authority) + option


def refuse(error: MessageError) -> bytes | None:
    """FORMERR for a query that could not be read; None when there is nobody to tell."""
    return None if error.id is None else HEADER.pack(error.id, QR | Rcode.FORMERR, 0, 0, 0, 0)
