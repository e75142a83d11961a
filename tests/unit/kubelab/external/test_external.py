"""The world outside: DNS messages and zones without sockets, then both servers on loopback."""

from __future__ import annotations

import asyncio
import signal
import struct
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubelab.external.__main__ import default_zone, split
from kubelab.external.dns_message import (
    HEADER,
    TC,
    MessageError,
    Query,
    Rcode,
    Record,
    Response,
    Type,
    decode,
    encode,
    read_name,
    write_name,
)
from kubelab.external.servers import BindError, World, respond
from kubelab.external.zone import answer, zone

ZONE = zone(
    "world.test",
    {
        "web": ("203.0.113.10", "2001:db8::10"),
        "www": ("=web.world.test.",),
        "away": ("=elsewhere.example.",),
        "loop": ("=loop.world.test.",),
        "*.wild": ("203.0.113.11",),
        "deep.below": ("203.0.113.12",),
        "many": tuple(f"2001:db8::{number:x}" for number in range(60)),
    },
)


def ask(name: str, kind: int = Type.A, *, opcode: int = 0, klass: int = 1) -> Response:
    return answer([ZONE], Query(1, opcode, name, kind, klass, True, False, 512))


def query_bytes(name: str, kind: int, *, edns: int = 0, number: int = 7) -> bytes:
    data = HEADER.pack(number, 0x0100, 1, 0, 0, 1 if edns else 0) + write_name(name) + struct.pack("!2H", kind, 1)
    return data + (b"\0" + struct.pack("!2HIH", Type.OPT, edns, 0, 0) if edns else b"")


def rcode(data: bytes) -> int:
    return struct.unpack_from("!H", data, 2)[0] & 0xF


def test_addresses_of_both_families_whatever_the_case() -> None:
    assert [record.data for record in ask("WEB.world.TEST.").answers] == [IPv4Address("203.0.113.10")]
    found = ask("web.world.test.", Type.AAAA)
    assert [record.data for record in found.answers] == [IPv6Address("2001:db8::10")]
    assert found.authoritative


def test_names_that_exist_and_names_that_do_not() -> None:
    assert ask("none.world.test.").rcode == Rcode.NXDOMAIN
    assert [record.type for record in ask("none.world.test.").authority] == [Type.SOA]
    empty = ask("web.world.test.", Type.TXT)
    assert (empty.rcode, list(empty.answers)) == (Rcode.NOERROR, [])
    assert ask("below.world.test.").rcode == Rcode.NOERROR  # an empty name above one that exists
    assert ask("world.test.", Type.SOA).answers[0].type == Type.SOA
    assert ask("world.test.", Type.NS).answers[0].data == "ns.world.test."


def test_aliases() -> None:
    assert [record.type for record in ask("www.world.test.").answers] == [Type.CNAME, Type.A]
    assert [record.type for record in ask("away.world.test.").answers] == [Type.CNAME]
    assert [record.type for record in ask("www.world.test.", Type.CNAME).answers] == [Type.CNAME]
    assert ask("loop.world.test.").rcode == Rcode.NOERROR


def test_wildcards() -> None:
    (record,) = ask("Any.thing.wild.world.test.").answers
    assert (record.name, record.data) == ("Any.thing.wild.world.test.", IPv4Address("203.0.113.11"))
    assert ask("x.web.world.test.").rcode == Rcode.NXDOMAIN


def test_what_is_not_served() -> None:
    assert ask("example.org.").rcode == Rcode.REFUSED
    assert ask("web.world.test.", opcode=4).rcode == Rcode.NOTIMP
    assert ask("web.world.test.", klass=3).rcode == Rcode.REFUSED
    with pytest.raises(ValueError, match="outside of the zone"):
        type(ZONE)("a.", (Record("b.", Type.A, 1, IPv4Address("1.1.1.1")),))


def test_large_answers_come_by_tcp_or_edns() -> None:
    data = query_bytes("many.world.test", Type.AAAA)
    small = respond([ZONE], data, udp=True)
    assert small is not None
    assert struct.unpack_from("!H", small, 2)[0] & TC
    whole = respond([ZONE], data, udp=False)
    assert whole is not None
    assert HEADER.unpack_from(whole)[3] == 60
    edns = respond([ZONE], query_bytes("many.world.test", Type.AAAA, edns=4096), udp=True)
    assert edns is not None
    assert HEADER.unpack_from(edns)[3:] == (60, 0, 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"\x05ab",
        b"\xc0\x0c\0\x01\0\x01",
        b"\xc0\xff\0\x01\0\x01",
        b"\x80\0\0\x01\0\x01",
        b"\x01\xff\0\0\x01\0\x01",
        b"\x3f" + b"a" * 63 + b"\xc0\x0c" + b"\0\x01\0\x01",
    ],
)
def test_malformed_questions_get_formerr(body: bytes) -> None:
    response = respond([ZONE], HEADER.pack(9, 0, 1, 0, 0, 0) + body, udp=True)
    assert response is not None
    assert (HEADER.unpack_from(response)[0], rcode(response)) == (9, Rcode.FORMERR)


def test_what_is_no_query_gets_no_answer() -> None:
    assert respond([ZONE], b"short", udp=True) is None
    assert respond([ZONE], HEADER.pack(1, 0x8000, 1, 0, 0, 0), udp=True) is None
    two = respond([ZONE], HEADER.pack(1, 0, 2, 0, 0, 0), udp=True)
    assert two is not None
    assert rcode(two) == Rcode.FORMERR


@given(st.binary(max_size=300))
def test_no_bytes_break_the_server(data: bytes) -> None:
    respond([ZONE], data, udp=True)


label = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20)


@given(st.lists(label, max_size=8), st.sampled_from([1, 28, 255]), st.integers(0, 65535))
def test_queries_round_trip(labels: list[str], kind: int, number: int) -> None:
    name = ".".join([*labels, ""]) or "."
    query = decode(query_bytes(name, kind, number=number))
    assert (query.name, query.type, query.id) == (name, kind, number)
    response = encode(query, Response(Rcode.NXDOMAIN))
    assert read_name(response, HEADER.size)[0] == name


def test_bad_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no domain name"):
        write_name("a..b.")
    with pytest.raises(MessageError):
        decode(b"")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_servers_answer_in_both_families(address: str) -> None:
    async with World() as world:
        port = await world.web("web", address, 0)
        reader, writer = await asyncio.open_connection(address, port)
        writer.write(b"GET /hello HTTP/1.1\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(5):
            data = await reader.read()
        assert b'"pod": "web"' in data
        assert f'"client": "{address}"'.encode() in data
        writer.close()
        names = await world.names([ZONE], address, 0)
        reader, writer = await asyncio.open_connection(address, names)
        data = query_bytes("many.world.test", Type.AAAA)
        writer.write(struct.pack("!H", len(data)) + data)
        async with asyncio.timeout(5):
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            assert HEADER.unpack_from(await reader.readexactly(length))[3] == 60
        writer.close()
        with pytest.raises(BindError, match=f"HTTP on {address} port {port}"):
            await world.web("again", address, port)
        assert rcode(await over_udp(address, names, query_bytes("web.world.test", Type.A))) == Rcode.NOERROR


async def over_udp(address: str, port: int, data: bytes) -> bytes:
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    class Client(asyncio.DatagramProtocol):
        def datagram_received(self, received: bytes, peer: object) -> None:
            answered.set_result(received)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Client, remote_addr=(address, port))
    try:
        transport.sendto(data)
        async with asyncio.timeout(5):
            return await answered
    finally:
        transport.close()


def test_the_process_serves_and_ends() -> None:
    command = [sys.executable, "-m", "kubelab.external", "--http", "web=127.0.0.1:0", "--dns", "[::1]:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.readline() + process.stdout.readline()
    assert "serving HTTP" in said
    assert "serving DNS" in said
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    process.stdout.close()


def test_arguments() -> None:
    assert split("[2001:db8::1]:53") == ("2001:db8::1", 53)
    with pytest.raises(ValueError, match="write ADDRESS:PORT"):
        split("1.2.3.4")
    assert default_zone().lookup("www.world.test.")
