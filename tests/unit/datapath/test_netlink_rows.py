"""rtnetlink's bytes: rows survive the way out and back, replies are read as the kernel writes them."""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_interface, ip_network
from socket import AF_INET

import pytest

from cilium.datapath.netlink.links import UP, Link, Veth, Vxlan
from cilium.datapath.netlink.rows import Address, Route
from cilium.datapath.netlink.wire import Flag, Type, attribute, attributes, decode, encode, error_of, nested

ROWS = [
    Address(3, ip_interface("10.0.0.1/24"), flags=0x80),
    Address(3, ip_interface("10.0.0.1/32"), flags=0x80, scope=253),
    Address(3, ip_interface("fd00::1/128"), flags=0x82),
    Route(ip_network("10.0.0.0/8"), 3, ip_address("10.1.1.1"), ip_address("10.1.1.2"), metric=7, mtu=1400),
    Route(ip_network("0.0.0.0/0"), 3, ip_address("fe80::1"), onlink=True),
    Route(ip_network("::/0"), 3, ip_address("fe80::1"), table=2004),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_there_and_back(row: Address | Route) -> None:
    assert type(row).decode(row.encode()) == row


def test_a_link_as_the_kernel_tells_it() -> None:
    vxlan = Vxlan("cilium_vxlan", 8472, 1450, "02:00:00:00:00:01")
    link = Link.decode(vxlan.encode())
    assert (link.name, link.kind, link.mtu, link.mac) == ("cilium_vxlan", "vxlan", 1450, "02:00:00:00:00:01")
    assert link.flags == UP
    assert vxlan.matches(link)
    assert not Vxlan("cilium_vxlan", 4789).matches(link)
    assert not vxlan.matches(Link.decode(Veth("a", "b").encode()))


def test_a_link_says_how_it_runs_xdp() -> None:
    bare = Vxlan("eth0", 8472).encode()
    assert Link.decode(bare).xdp == 0
    assert Link.decode(bare + nested(43, attribute(2, b"\2"), attribute(4, 4711))).xdp == 2


def test_a_route_with_several_next_hops_names_the_first() -> None:
    def hop(ifindex: int, gateway: str) -> bytes:
        via = attribute(5, ip_address(gateway).packed)
        return struct.pack("=HBBi", 8 + len(via), 0, 0, ifindex) + via

    body = struct.pack("=BBBBBBBBI", AF_INET, 0, 0, 0, 254, 4, 0, 1, 0)
    body += attribute(9, hop(7, "10.0.0.1") + hop(8, "10.0.0.2"))
    route = Route.decode(body)
    assert route is not None
    assert (route.ifindex, route.gateway) == (7, ip_address("10.0.0.1"))


def test_families_that_are_not_ours_are_passed_over() -> None:
    assert Route.decode(bytes([129]) + bytes(11)) is None
    assert Address.decode(bytes([28]) + bytes(7)) is None


def test_a_batch_is_read_message_by_message() -> None:
    data = encode(Type.NEWADDR, Flag.REQUEST, 1, b"12345") + encode(Type.DONE, Flag.MULTI, 2, b"")
    first, second = decode(data)
    assert (first.type, first.sequence, first.body) == (Type.NEWADDR, 1, b"12345")
    assert (second.type, second.flags) == (Type.DONE, Flag.MULTI)


@pytest.mark.parametrize("data", [b"", b"123", bytes(16), encode(Type.DONE, Flag.MULTI, 2, b"")[:-1]])
def test_truncated_datagrams_yield_nothing_wrong(data: bytes) -> None:
    assert all(message.type == Type.DONE for message in decode(data))


def test_attributes() -> None:
    data = attribute(1, 7) + attribute(2, "name") + nested(3, attribute(4, b"x"))
    found = attributes(data)
    assert (found[1], found[2], attributes(found[3])) == (b"\7\0\0\0", b"name\0", {4: b"x"})
    assert attributes(data[:6]) == {1: b"\7\0"}
    assert attributes(b"\0\0\0\0") == {}


def test_the_kernels_words_are_found_in_errors() -> None:
    request = encode(Type.NEWADDR, Flag.REQUEST, 5, b"body")
    words = attribute(1, "Invalid address")
    capped = struct.pack("=i", -22) + request[:16] + words
    whole = struct.pack("=i", -22) + request + words
    for flags, body in ((0x300, capped), (0x200, whole)):
        (message,) = decode(encode(Type.ERROR, Flag(flags), 5, body))
        assert error_of(message) == (22, "Invalid address")
    (bare,) = decode(encode(Type.ERROR, Flag(0), 5, struct.pack("=i", 0) + request[:16]))
    assert error_of(bare) == (0, "")
