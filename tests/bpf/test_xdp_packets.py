"""Services in XDP, packet by packet: what turns back is what tc would have sent, to the byte; the rest is untouched."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

import pytest
from bpf.crossing import (
    BACKEND,
    BESIDE,
    BESIDE_MAC,
    GATEWAY_MAC,
    MAC,
    NODE,
    PORT,
    TARGET,
    VIP,
    Crossing,
    Node,
    asks,
    left_alone,
    network,
)
from bpf.harness import REDIRECT, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX, Datapath, encoded
from bpf.nodes import inside
from bpf.packets import FAMILIES, WORLD, checksums_hold, echo, tcp, udp
from scapy.layers.inet import ICMP, TCP, UDP, IPOption
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from cilium.datapath.addresses import mac_bytes
from cilium.datapath.generated.enums import DropReason, EventType, NetdevFlags, ServiceFlags, ServiceScope

both = pytest.mark.parametrize("version", FAMILIES)
transports = pytest.mark.parametrize("make", [tcp, udp])


@pytest.fixture
def node(crossing: Crossing, make_datapath: Callable[..., Datapath]) -> Node:
    return Node(crossing, make_datapath)


@both
@transports
def test_there_and_back_as_tc_does_it(node: Node, version: int, make: Callable[..., Packet]) -> None:
    node.both_protocols(version, BACKEND[version])
    node.ready(asks(make, version, 61999))
    request = asks(make, version)
    there = node.wire(request)
    assert there.verdict == XDP_TX
    sent = network(there.packet)
    assert (sent.src, sent.dst, sent.payload.sport, sent.payload.dport) == (
        NODE[version],
        BACKEND[version],
        62000,
        TARGET,
    )
    assert (there.packet.src, there.packet.dst) == (MAC, GATEWAY_MAC)
    assert checksums_hold(there.data)
    by_tc = node.tc(request)
    assert by_tc.verdict == REDIRECT
    assert by_tc.data[14:] == there.data[14:]

    reply = make(BACKEND[version], NODE[version], TARGET, 62000)
    back = node.wire(reply)
    assert back.verdict == XDP_TX
    received = network(back.packet)
    assert (received.src, received.dst, received.payload.sport, received.payload.dport) == (
        VIP[version],
        WORLD[version],
        PORT,
        62000,
    )
    assert checksums_hold(back.data)
    assert node.tc(reply).data[14:] == back.data[14:]


@both
def test_a_connection_goes_on_in_either_hook(node: Node, version: int) -> None:
    """What one of them began the other continues."""
    node.service(version, BACKEND[version])
    node.ready(asks(tcp, version, 61999))
    assert node.tc(asks(tcp, version)).verdict == REDIRECT
    assert node.wire(tcp(BACKEND[version], NODE[version], TARGET, 62000, "SA")).verdict == XDP_TX
    assert node.wire(asks(tcp, version, flags="A")).verdict == XDP_TX
    assert node.tc(asks(tcp, version, flags="PA")).verdict == REDIRECT
    keys, _ = node.datapath.map("cilium_snat").dump()
    assert len(keys) == 4  # two connections


@both
@transports
def test_lengths_and_padding(node: Node, version: int, make: Callable[..., Packet]) -> None:
    node.both_protocols(version, BACKEND[version])
    node.ready(asks(make, version, 61999))
    for size in (0, 1, 2, 3, 700, 1399, 1400):
        packet = asks(make, version)
        if UDP in packet:
            packet[UDP].remove_payload()
        whole = packet / Raw(bytes(range(256)) * 6) if size else packet
        if size:
            whole[Raw].load = whole[Raw].load[:size]
        found = node.wire(whole)
        assert (found.verdict, checksums_hold(found.data)) == (XDP_TX, True), size
    padded = bytes(asks(tcp, version)) + bytes(6)
    found = node.wire(padded)
    assert found.verdict == XDP_TX
    assert len(found.data) == len(padded)


def test_a_datagram_without_checksum_stays_without(node: Node) -> None:
    node.both_protocols(4, BACKEND[4])
    node.ready(asks(udp, 4, 61999))
    packet = asks(udp, 4)
    packet[UDP].chksum = 0
    found = node.wire(packet)
    assert (found.verdict, found.packet[UDP].chksum) == (XDP_TX, 0)


@both
def test_a_checksum_never_becomes_none(node: Node, version: int) -> None:
    """Zero means that there is no checksum; the sum that would be zero is written as its other form (RFC 768)."""
    node.both_protocols(version, BACKEND[version])
    node.ready(asks(udp, version, 61999))
    translated = node.wire(asks(udp, version, data=b"\0\0")).packet[UDP].chksum
    found = node.wire(asks(udp, version, data=translated.to_bytes(2, "big")))
    assert found.packet[UDP].chksum == 0xFFFF
    assert checksums_hold(found.data)


@both
@transports
def test_a_checksum_that_a_device_was_to_complete_is_left_to_the_stack(
    node: Node, version: int, make: Callable[..., Packet]
) -> None:
    node.both_protocols(version, BACKEND[version])
    node.ready(asks(make, version, 61999))
    packet = Ether(bytes(asks(make, version)))
    layer = packet[TCP] if TCP in packet else packet[UDP]
    half = partial_checksum(packet)
    layer.chksum = half
    assert left_alone(node.wire(packet), packet)


def partial_checksum(packet: Packet) -> int:
    """What a sender leaves in the field whose device completes it: the sum of the pseudo-header."""
    ip = network(packet)
    version = 6 if IPv6 in packet else 4
    length = len(ip.payload)
    words = ip_address(ip.src).packed + ip_address(ip.dst).packed + length.to_bytes(4, "big")
    total = sum(int.from_bytes(words[i : i + 2], "big") for i in range(0, len(words), 2))
    total += ip.nh if version == 6 else ip.proto
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@both
def test_another_device_must_take_frames(node: Node, version: int) -> None:
    node.service(version, BESIDE[version])
    for sport in (61998, 61999):
        assert node.wire(asks(tcp, version, sport)).verdict == XDP_PASS
    node.device(node.crossing.eth1, flags=NetdevFlags.TAKES_FRAMES)
    node.ready(asks(tcp, version, 61997))
    found = node.wire(asks(tcp, version))
    assert found.verdict == XDP_REDIRECT
    assert found.packet.dst == BESIDE_MAC
    assert checksums_hold(found.data)


@both
def test_on_a_veth_it_turns_back_by_redirect(node: Node, version: int) -> None:
    node.device(node.crossing.eth0, flags=NetdevFlags.TAKES_FRAMES | NetdevFlags.TX_WAITS)
    node.service(version, BACKEND[version])
    node.ready(asks(tcp, version, 61999))
    found = node.wire(asks(tcp, version))
    assert (found.verdict, found.packet.dst) == (XDP_REDIRECT, GATEWAY_MAC)


@both
def test_the_kernel_sees_a_packet_now_and_then(node: Node, version: int) -> None:
    """It must ask neighbours anew; only packets that begin something, or come after a pause, go there."""
    node.service(version, BACKEND[version])
    request = asks(tcp, version)
    assert left_alone(node.wire(request), request)
    assert [node.wire(asks(tcp, version, 62000 + n)).verdict for n in range(3)] == [XDP_TX] * 3


@both
def test_of_both_directions(node: Node, version: int) -> None:
    """The backend's neighbour is another one than the client's."""
    node.device(node.crossing.eth1, flags=NetdevFlags.TAKES_FRAMES)
    node.service(version, BESIDE[version])
    node.ready(asks(tcp, version))
    reply = tcp(BESIDE[version], NODE[version], TARGET, 62000, "SA")
    assert [node.wire(reply).verdict for _ in range(3)] == [XDP_PASS, XDP_TX, XDP_TX]


@both
@pytest.mark.parametrize(
    "change",
    [
        "other",
        "vlan",
        "options",
        "fragment",
        "ttl",
        "short",
        "icmp",
        "error",
        "nobody",
        "local",
        "host",
        "pod",
        "truncated",
    ],
)
def test_what_is_left_to_tc(node: Node, version: int, change: str) -> None:
    node.service(version, BACKEND[version])
    node.ready(asks(tcp, version, 61999))
    packet = asks(tcp, version)
    ip = network(packet)
    match change:
        case "other":
            packet.dst = "02:00:00:00:ff:77"
        case "vlan":
            packet = Ether(src=packet.src, dst=packet.dst) / Dot1Q(vlan=5) / ip
        case "options" if version == 4:
            ip.options = [IPOption(b"\x94\x04\0\0")]
        case "options":
            inner = ip.payload
            ip.remove_payload()
            ip.nh = 60
            packet = packet / IPv6ExtHdrDestOpt(nh=6) / inner
        case "fragment" if version == 4:
            ip.flags = "MF"
        case "fragment":
            inner = bytes(ip.payload)
            ip.remove_payload()
            ip.nh = 44
            packet = packet / Raw(b"\x06\0\0\1\0\0\0\7") / inner
        case "ttl" if version == 4:
            ip.ttl = 1
        case "ttl":
            ip.hlim = 1
        case "short":
            packet = Ether(bytes(packet)[: 14 + len(ip) - 1])
        case "icmp":
            packet = echo(WORLD[version], VIP[version])
        case "error":
            message = ICMP(type=3, code=4) if version == 4 else ICMPv6PacketTooBig()
            quoted = bytes(network(tcp(NODE[version], BACKEND[version], 62000, TARGET)))
            packet = packet.__class__(bytes(tcp(WORLD[version], NODE[version])))
            network(packet).remove_payload()
            packet = packet / message / quoted
        case "nobody":
            packet = asks(tcp, version, dport=81)
        case "local":
            node.datapath.endpoint(BACKEND[version], 1000)
        case "host":
            node.service(version, NODE[version])
        case "pod":
            node.datapath.endpoint(VIP[version], 1000)
        case "truncated":
            packet[TCP].dataofs = 4
    assert left_alone(node.wire(packet), packet)


@both
def test_a_packet_too_big_is_the_kernels_matter(node: Node, version: int) -> None:
    node.service(version, BACKEND[version])
    node.ready(asks(tcp, version, 61999))
    packet = asks(tcp, version) / Raw(bytes(1500))
    assert left_alone(node.wire(packet), packet)


@both
def test_masqueraded_replies_are_not_taken_for_others(node: Node, version: int) -> None:
    """A mapping of a pod wins over a service at the same port of the node, as in tc."""
    pod = {4: "10.0.0.1", 6: "fd00::1"}[version]
    node.datapath.endpoint(pod, 1000, ifindex=5)
    with inside(node.crossing.namespace):
        out = node.datapath.run(
            "to_netdev", tcp(pod, WORLD[version], 62005, 443), came_from=5, ifindex=node.crossing.eth0
        )
    port = network(out.packet)[TCP].sport
    key = {"address": encoded(NODE[version]), "port": port, "protocol": 6, "scope": ServiceScope.EXTERNAL}
    node.service(version, BACKEND[version])
    node.datapath.put("cilium_lb_services", key, {"id": 9, "slots": 10, "count": 1})
    reply = tcp(WORLD[version], NODE[version], 443, port, "SA")
    assert left_alone(node.wire(reply), reply)


@both
@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        (DropReason.DENIED_BY_LB_SRC_RANGE_CHECK, {"flags": ServiceFlags.SOURCE_CHECK}),
        (DropReason.SERVICE_BACKEND_NOT_FOUND, {"flags": ServiceFlags.LOCAL, "count": 0}),
    ],
)
def test_silent_drops_are_counted_and_told(
    node: Node, version: int, reason: DropReason, fields: dict[str, int]
) -> None:
    node.service(version, BACKEND[version], **fields)
    packet = asks(tcp, version)
    found = node.wire(packet)
    assert (found.verdict, found.drop) == (XDP_DROP, reason)
    (event,) = found.events
    assert (event["ifindex"], event["length"]) == (node.crossing.eth0, len(packet))
    assert bytes(event["source_mac"]) == mac_bytes(packet.src)
    assert list(event["destination"]) == encoded(VIP[version])
    assert node.datapath.count(reason, 1) == 1
    tc = node.tc(packet)
    (other,) = tc.events
    for name in other.dtype.names:
        assert name == "time" or (event[name] == other[name]).all(), name


@both
def test_nobody_outside_has_the_address_of_a_pod(node: Node, version: int) -> None:
    pod = {4: "10.0.0.1", 6: "fd00::1"}[version]
    node.datapath.endpoint(pod, 1000)
    node.service(version, BACKEND[version])
    packet = tcp(pod, VIP[version], 62000, PORT)
    assert node.wire(packet).drop == DropReason.INVALID_SOURCE_IP
    assert node.tc(packet).drop == DropReason.INVALID_SOURCE_IP


@both
def test_a_refusal_is_tcs(node: Node, version: int) -> None:
    node.service(version)
    packet = asks(tcp, version)
    assert left_alone(node.wire(packet), packet)
    assert node.tc(packet).verdict == REDIRECT


@both
def test_a_cluster_ip_is_for_the_cluster(node: Node, version: int) -> None:
    key = {"address": encoded(VIP[version]), "port": PORT, "protocol": 6, "scope": ServiceScope.CLUSTER}
    node.datapath.put("cilium_lb_services", key, {"id": 3})
    assert node.wire(asks(tcp, version)).drop == DropReason.IS_A_CLUSTERIP


@both
def test_a_new_connection_is_told_once_and_as_tc_tells_it(node: Node, version: int) -> None:
    node.service(version, BACKEND[version])
    (told,) = node.wire(asks(tcp, version)).events
    assert told["type"] == EventType.TRACE
    assert list(told["translated"]) == encoded(BACKEND[version])
    assert node.tc(asks(tcp, version)).events == []
    assert node.wire(asks(tcp, version, flags="A")).events == []
    node.datapath.drop_rows("cilium_snat")
    (other,) = node.tc(asks(tcp, version)).events
    for name in other.dtype.names:
        assert name == "time" or (told[name] == other[name]).all(), name


@both
def test_what_turned_back_is_counted(node: Node, version: int) -> None:
    node.service(version, BACKEND[version])
    node.ready(asks(tcp, version, 61999))
    for n in range(3):
        node.wire(asks(tcp, version, 62000 + n))
    assert node.datapath.count(0, 1) == 3


@both
def test_direct_server_return(crossing: Crossing, make_datapath: Callable[..., Datapath], version: int) -> None:
    """The option is written by tc; what needs none turns back."""
    node = Node(crossing, make_datapath, dsr=1)
    node.both_protocols(version, BACKEND[version], flags=ServiceFlags.DSR)
    for packet in (asks(tcp, version), asks(udp, version)):
        assert left_alone(node.wire(packet), packet)
        assert node.tc(packet).verdict == REDIRECT
    node.ready(asks(udp, version))
    found = node.wire(asks(tcp, version, flags="A"))
    assert found.verdict == XDP_TX
    assert (network(found.packet).src, network(found.packet).dst) == (WORLD[version], BACKEND[version])
    assert checksums_hold(found.data)
