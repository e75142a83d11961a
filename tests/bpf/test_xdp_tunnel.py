"""Services in XDP through the tunnel: inside, what tc would have sent; outside, what the tunnel's device would add."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from bpf.crossing import BACKEND, MAC, NODE, PEER, PEER_MAC, Crossing, Node, asks, left_alone, network
from bpf.harness import XDP_PASS, XDP_TX, Datapath
from bpf.packets import FAMILIES, checksums_hold, tcp, udp
from scapy.layers.inet import UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from cilium.datapath.generated.enums import RoutingMode, TunnelProtocol

OUTER = {4: 50, 6: 70}
both = pytest.mark.parametrize("version", FAMILIES)
MakeDatapath = Callable[..., Datapath]


@pytest.fixture(params=[TunnelProtocol.VXLAN, TunnelProtocol.GENEVE], ids=["vxlan", "geneve"])
def kind(request: pytest.FixtureRequest) -> TunnelProtocol:
    found: TunnelProtocol = request.param
    return found


@both
@pytest.mark.parametrize("make", [tcp, udp])
@pytest.mark.parametrize("outer", FAMILIES)
def test_through_the_tunnel(
    crossing: Crossing,
    make_datapath: MakeDatapath,
    kind: TunnelProtocol,
    version: int,
    outer: int,
    make: Callable[..., Packet],
) -> None:
    node = Node(crossing, make_datapath, routing_mode=RoutingMode.TUNNEL, tunnel_protocol=kind, tunnel_ifindex=1)
    node.datapath.ipcache(BACKEND[version], 3000, tunnel=PEER[outer])
    node.both_protocols(version, BACKEND[version])
    node.ready(asks(make, version, 61999))
    for size in (0, 1, 2, 31, 1300):
        packet = asks(make, version) / Raw(b"\x5a" * size) if size else asks(make, version)
        found = node.wire(packet)
        assert found.verdict == XDP_TX
        front, inner = found.data[: OUTER[outer]], found.data[OUTER[outer] :]
        assert inner[:14] == bytes(packet)[:14]
        assert checksums_hold(inner)
        assert node.tc(packet).data == inner
        sent = network(found.packet)
        assert (sent.src, sent.dst, sent[UDP].dport) == (NODE[outer], PEER[outer], 8472)
        assert (found.packet.src, found.packet.dst) == (MAC, PEER_MAC)
        assert sent[UDP].sport >= 49152
        assert front[-8:] == bytes.fromhex("08000000" if kind == TunnelProtocol.VXLAN else "00006558") + bytes(
            [0, 0, {4: 9, 6: 10}[version], 0]
        )
        assert outer_checksums_hold(found.data, outer)


@both
def test_congestion_shows_outside(crossing: Crossing, make_datapath: MakeDatapath, version: int) -> None:
    node = Node(crossing, make_datapath, routing_mode=RoutingMode.TUNNEL)
    node.datapath.ipcache(BACKEND[version], 3000, tunnel=PEER[version])
    node.service(version, BACKEND[version])
    node.ready(asks(tcp, version, 61999))
    for inside_, outside in ((0, 0), (1, 1), (2, 2), (3, 2)):
        packet = asks(tcp, version)
        setattr(network(packet), "tc" if version == 6 else "tos", inside_)
        sent = network(node.wire(packet).packet)
        assert (sent.tc if version == 6 else sent.tos) == outside


def test_what_has_no_checksum_cannot_get_one_outside(crossing: Crossing, make_datapath: MakeDatapath) -> None:
    for outer, verdict in ((4, XDP_TX), (6, XDP_PASS)):
        node = Node(crossing, make_datapath, routing_mode=RoutingMode.TUNNEL)
        node.datapath.ipcache(BACKEND[4], 3000, tunnel=PEER[outer])
        node.both_protocols(4, BACKEND[4])
        node.ready(asks(udp, 4, 61999))
        packet = asks(udp, 4)
        packet[UDP].chksum = 0
        assert node.wire(packet).verdict == verdict


@both
def test_replies_come_encapsulated_and_are_tcs(crossing: Crossing, make_datapath: MakeDatapath, version: int) -> None:
    node = Node(crossing, make_datapath, routing_mode=RoutingMode.TUNNEL)
    reply = udp(PEER[version], NODE[version], 50000, 8472)
    assert left_alone(node.wire(reply), reply)


@both
def test_backends_on_hosts_need_no_tunnel(crossing: Crossing, make_datapath: MakeDatapath, version: int) -> None:
    node = Node(crossing, make_datapath, routing_mode=RoutingMode.TUNNEL)
    node.datapath.ipcache(PEER[version], 6)
    node.service(version, PEER[version])
    node.ready(asks(tcp, version, 61999))
    found = node.wire(asks(tcp, version))
    assert (found.verdict, network(found.packet).dst, found.packet.dst) == (XDP_TX, PEER[version], PEER_MAC)


def outer_checksums_hold(data: bytes, version: int) -> bool:
    """Of the IP header, and of UDP over IPv6 over everything inside; none of UDP over IPv4 (RFC 7348 5)."""
    start = 14 + (40 if version == 6 else 20)
    packet = Ether(data[: start + 8])
    ip = network(packet)
    if version == 4:
        return packet[UDP].chksum == 0 and ones(data[14:34]) == 0xFFFF
    pseudo = data[22:54] + (len(data) - start).to_bytes(4, "big") + b"\0\0\0\x11"
    return ip.plen == len(data) - start and ones(pseudo + data[start:]) == 0xFFFF


def ones(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
