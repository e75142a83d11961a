"""The world outside: DNS messages and zones without sockets, then both servers on loopback."""

from __future__ import annotations

import asyncio
import signal
import ssl
import struct
import subprocess
import sys
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rdataclass
import pytest
from dns.message import Message
from dns.rcode import Rcode
from dns.rdatatype import RdataType
from hypothesis import given
from hypothesis import strategies as st

from kubelab.apiserver.tls import Authority
from kubelab.dns.listeners import BindError
from kubelab.dns.records import addresses
from kubelab.external.__main__ import context, default_zone, public_zones, root, split
from kubelab.external.names import PUBLIC_ZONES
from kubelab.external.servers import World, respond
from kubelab.external.zone import Zone, zone
from kubelab.lab.pki import Credentials

HEADER = struct.Struct("!6H")

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


def query(name: str, kind: str = "A", *, klass: str = "IN", edns: int = 0) -> Message:
    options = {"use_edns": 0, "payload": edns} if edns else {}
    return dns.message.make_query(name, kind, dns.rdataclass.from_text(klass), **options)


def ask(name: str, kind: str = "A", *, klass: str = "IN", edns: int = 0, tcp: bool = False) -> Message:
    data = respond([ZONE], query(name, kind, klass=klass, edns=edns).to_wire(), protocol="tcp" if tcp else "udp")
    assert data is not None
    return dns.message.from_wire(data)


def texts(message: Message) -> list[str]:
    return [str(record) for found in message.answer for record in found]


def kinds(message: Message) -> list[str]:
    return [found.rdtype.name for found in message.answer]


def test_addresses_of_both_families_whatever_the_case() -> None:
    assert texts(ask("WEB.world.TEST.")) == ["203.0.113.10"]
    found = ask("web.world.test.", "AAAA")
    assert texts(found) == ["2001:db8::10"]
    assert found.flags & dns.flags.AA


def test_names_that_exist_and_names_that_do_not() -> None:
    missing = ask("none.world.test.")
    assert missing.rcode() == Rcode.NXDOMAIN
    assert [found.rdtype for found in missing.authority] == [RdataType.SOA]
    empty = ask("web.world.test.", "TXT")
    assert (empty.rcode(), empty.answer) == (Rcode.NOERROR, [])
    assert ask("below.world.test.").rcode() == Rcode.NOERROR  # an empty name above one that exists
    assert kinds(ask("world.test.", "SOA")) == ["SOA"]
    assert texts(ask("world.test.", "NS")) == ["ns.world.test."]


def test_aliases() -> None:
    assert kinds(ask("www.world.test.")) == ["CNAME", "A"]
    assert kinds(ask("away.world.test.")) == ["CNAME"]
    assert kinds(ask("www.world.test.", "CNAME")) == ["CNAME"]
    assert ask("loop.world.test.").rcode() == Rcode.NOERROR


def test_wildcards() -> None:
    (found,) = ask("Any.thing.wild.world.test.").answer
    assert (str(found.name), str(found[0])) == ("Any.thing.wild.world.test.", "203.0.113.11")
    assert ask("x.web.world.test.").rcode() == Rcode.NXDOMAIN


def test_public_names_are_of_this_world() -> None:
    def addressed(name: str, kind: str) -> list[str]:
        data = respond(public_zones(), query(name, kind).to_wire(), protocol="udp")
        assert data is not None
        return texts(dns.message.from_wire(data))

    for name in (*PUBLIC_ZONES, "www.google.com", "api.github.com"):
        assert addressed(name, "A") == ["203.0.113.10"]
        assert addressed(name, "AAAA") == ["2001:db8::10"]
    assert {*addressed("one.one.one.one", "A")} == {"1.1.1.1", "1.0.0.1"}
    assert {*addressed("one.one.one.one", "AAAA")} == {"2606:4700:4700::1111", "2606:4700:4700::1001"}
    assert addressed("two.one.one.one", "A") == []


def test_other_names_do_not_exist_in_this_world() -> None:
    data = respond([ZONE, root()], query("nosuch.").to_wire(), protocol="udp")
    assert data is not None
    missing = dns.message.from_wire(data)
    assert missing.rcode() == Rcode.NXDOMAIN
    assert [str(found.name) for found in missing.authority] == ["."]
    data = respond([ZONE, root()], query("web.world.test.").to_wire(), protocol="udp")
    assert data is not None
    assert texts(dns.message.from_wire(data)) == ["203.0.113.10"]


def test_what_is_not_served() -> None:
    assert ask("example.org.").rcode() == Rcode.REFUSED
    assert ask("web.world.test.", klass="CH").rcode() == Rcode.REFUSED
    assert ask("world.test.", "AXFR").rcode() == Rcode.REFUSED
    other = query("web.world.test.")
    other.set_opcode(dns.opcode.NOTIFY)
    data = respond([ZONE], other.to_wire(), protocol="udp")
    assert data is not None
    assert data[3] & 0xF == Rcode.NOTIMP
    outside = addresses(dns.name.from_text("b."), 1, RdataType.A, ["1.1.1.1"])
    with pytest.raises(ValueError, match="outside of the zone"):
        Zone(dns.name.from_text("a."), tuple(outside))


def test_large_answers_come_by_tcp_or_edns() -> None:
    cut = ask("many.world.test.", "AAAA")
    assert cut.flags & dns.flags.TC
    assert len(cut.to_wire()) <= 512
    assert len(texts(ask("many.world.test.", "AAAA", tcp=True))) == 60
    edns = ask("many.world.test.", "AAAA", edns=4096)
    assert (len(texts(edns)), edns.edns) == (60, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"\x05ab",
        b"\xc0\x0c\0\x01\0\x01",
        b"\xc0\xff\0\x01\0\x01",
        b"\x80\0\0\x01\0\x01",
        b"\x3f" + b"a" * 63 + b"\xc0\x0c" + b"\0\x01\0\x01",
    ],
)
def test_malformed_questions_get_formerr(body: bytes) -> None:
    response = respond([ZONE], HEADER.pack(9, 0, 1, 0, 0, 0) + body, protocol="udp")
    assert response is not None
    assert (HEADER.unpack_from(response)[0], response[3] & 0xF) == (9, Rcode.FORMERR)


def test_what_is_no_query_gets_no_answer() -> None:
    assert respond([ZONE], b"short", protocol="udp") is None
    assert respond([ZONE], HEADER.pack(1, 0x8000, 1, 0, 0, 0), protocol="udp") is None
    two = respond([ZONE], HEADER.pack(1, 0, 2, 0, 0, 0), protocol="udp")
    assert two is not None
    assert two[3] & 0xF == Rcode.FORMERR


@given(st.binary(max_size=300))
def test_no_bytes_break_the_server(data: bytes) -> None:
    respond([ZONE], data, protocol="udp")


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
        data = query("many.world.test", "AAAA").to_wire()
        writer.write(struct.pack("!H", len(data)) + data)
        async with asyncio.timeout(5):
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            assert len(texts(dns.message.from_wire(await reader.readexactly(length)))) == 60
        writer.close()
        with pytest.raises(BindError, match=f"HTTP on {address} port {port}"):
            await world.web("again", address, port)
        data = await over_udp(address, names, query("web.world.test").to_wire())
        assert dns.message.from_wire(data).rcode() == Rcode.NOERROR


async def test_the_web_speaks_tls_with_a_certificate_of_the_lab(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    Credentials(tmp_path).write_world(tmp_path / "world.pem")
    trusting = ssl.create_default_context(cadata=authority.certificate.decode())
    async with World() as world:
        port = await world.web("web", "127.0.0.1", 0, context(str(tmp_path / "world.pem")))
        for name in ("one.one.one.one", "web.world.test", "docs.cilium.io", "203.0.113.10", "2606:4700:4700::1111"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=name)
            writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
            async with asyncio.timeout(5):
                assert b"200 OK" in await reader.readline()
            writer.close()
    assert (tmp_path / "world.pem").stat().st_mode & 0o777 == 0o600


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
    assert default_zone().lookup(dns.name.from_text("www.world.test."))
