"""DNS messages on the wire: bytes to queries, answers to bytes. Sans-IO.

In: a message as it came off the wire. Out: `Query`, or bytes that refuse it; `encode` writes responses.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Literal

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset
from dns.rcode import Rcode
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

Protocol = Literal["udp", "tcp"]

PLAIN_SIZE = 512
"""Bytes in a UDP response to those who do not ask for more by EDNS."""
OWN_SIZE = 1232
"""What this side offers: fits any path without fragments."""
HEADER = 12
_HEADER = struct.Struct("!6H")
_RESPONSE = 1 << 15


@dataclass(frozen=True, slots=True)
class Query:
    """One question, and who asks."""

    message: dns.message.Message
    name: dns.name.Name
    """As the asker wrote it: case is kept for the echo, and compared without it."""
    type: RdataType
    klass: RdataClass
    peer: str = ""
    port: int = 0
    protocol: Protocol = "udp"
    size: int = 0
    """Bytes of the message on the wire."""
    aliases: int = 0
    """How many aliases led to this question."""

    @property
    def limit(self) -> int:
        """The largest response that the asker takes."""
        if self.protocol == "tcp":
            return 65535
        return max(PLAIN_SIZE, self.message.payload) if self.message.edns >= 0 else PLAIN_SIZE

    def about(self, name: dns.name.Name, kind: RdataType | None = None) -> Query:
        """The same asker's question about another name: how aliases are followed."""
        kind = self.type if kind is None else kind
        message = dns.message.make_query(name, kind, self.klass)
        return Query(message, name, kind, self.klass, self.peer, self.port, self.protocol, 0, self.aliases + 1)


@dataclass(slots=True)
class Response:
    """What a server says, without the question."""

    rcode: Rcode = Rcode.NOERROR
    answer: list[dns.rrset.RRset] = field(default_factory=list)
    authority: list[dns.rrset.RRset] = field(default_factory=list)
    additional: list[dns.rrset.RRset] = field(default_factory=list)
    authoritative: bool = False
    recursion_available: bool = False


def decode(data: bytes, peer: str = "", port: int = 0, protocol: Protocol = "udp") -> Query | bytes | None:
    """The query; or the bytes that refuse it; or None when there is nobody to tell."""
    if len(data) < HEADER:
        return None
    number, flags, *_ = _HEADER.unpack_from(data)
    if flags & _RESPONSE:
        return None
    if (opcode := flags >> 11 & 0xF) != dns.opcode.QUERY:
        return _refusal(number, opcode, Rcode.NOTIMP)
    try:
        message = dns.message.from_wire(data, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError, struct.error):
        return _refusal(number, opcode, Rcode.FORMERR)
    if len(message.question) != 1:
        return _refusal(number, opcode, Rcode.FORMERR)
    (question,) = message.question
    query = Query(message, question.name, question.rdtype, question.rdclass, peer, port, protocol, len(data))
    if message.edns > 0:
        return encode(query, Response(Rcode.BADVERS))
    if query.type in (RdataType.AXFR, RdataType.IXFR):
        return encode(query, Response(Rcode.REFUSED))
    return query


def encode(query: Query, response: Response) -> bytes:
    """The response's bytes. Over the asker's limit records are left out, and TC tells to come by TCP."""
    message = dns.message.make_response(query.message, response.recursion_available, our_payload=OWN_SIZE)
    message.flags |= dns.flags.AA if response.authoritative else 0
    message.set_rcode(response.rcode)
    message.answer, message.authority, message.additional = response.answer, response.authority, response.additional
    try:
        return message.to_wire(max_size=query.limit)
    except dns.exception.TooBig:
        message.additional = []
    try:
        return message.to_wire(max_size=query.limit, prefer_truncation=True)
    except dns.exception.TooBig:
        message.answer, message.authority = [], []
        message.flags |= dns.flags.TC
        return message.to_wire()


def reverse_address(name: dns.name.Name) -> str | None:
    """The address that a name below in-addr.arpa or ip6.arpa stands for."""
    try:
        return dns.reversename.to_address(name)
    except (dns.exception.DNSException, ValueError):
        return None


def _refusal(number: int, opcode: int, rcode: Rcode) -> bytes:
    return _HEADER.pack(number, _RESPONSE | opcode << 11 | rcode, 0, 0, 0, 0)
