"""Services in XDP, packet by packet: what turns back is what tc would have sent, byte for byte; what does not is untouched."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest
from bpf.harness import REDIRECT, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX, Datapath, Outcome, encoded
from bpf.nodes import Underlay, batch, inside
from bpf.packets import FAMILIES, WORLD, checksums_hold, echo, tcp, udp
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from cilium.datapath.addresses import mac_bytes
from cilium.datapath.generated.enums import DropReason, EventType, NetdevFlags, RoutingMode, ServiceFlags, ServiceScope, TunnelProtocol

NODE = {4: "172.18.0.2", 6: "fd12::2"}
ROUTER_ON_NODE = {4: "10.0.0.254", 6: "fd00::fe"}
BACKEND = {4: "10.0.1.5", 6: "fd01::5"}
BESIDE = {4: "172.19.0.9", 6: "fd13::9"}
PEER = {4: "172.18.0.3", 6: "fd12::3"}
VIP = {4: "198.51.100.7", 6: "2001:db8:7::7"}
MAC, GATEWAY_MAC, BESIDE_MAC, PEER_MAC = "02:00:00:00:ff:01", "02:00:00:00:00:01", "02:00:00:00:00:09", "02:00:00:00:00:03"
PORT, TARGET = 80, 8080
OUTER = {4: 50, 6: 70}
both = pytest.mark.parametrize("version", FAMILIES)
transports = pytest.mark.parametrize("make", [tcp, udp])


class Crossing:
    """A node between two wires: eth0, where clients and other nodes are, and eth1."""

    def __init__(self) -> None:
        self.underlay = Underlay()
        self.namespace = f"{self.underlay.prefix}x"
        self.underlay.add_namespace(self.namespace)
        batch(
            self.namespace,
            *(line for n in (0, 1) for line in self._device(n)),
            "route add default via 172.18.0.1",
            "route add default via fd12::1",
            *(f"neighbour replace {address} lladdr {GATEWAY_MAC} dev eth0" for address in ("172.18.0.1", "fd12::1")),
            *(f"neighbour replace {address} lladdr {PEER_MAC} dev eth0" for address in PEER.values()),
            *(f"neighbour replace {address} lladdr {BESIDE_MAC} dev eth1" for address in BESIDE.values()),
        )
        with inside(self.namespace):
            self.eth0, self.eth1 = (socket.if_nametoindex(name) for name in ("eth0", "eth1"))

    @staticmethod
    def _device(number: int) -> list[str]:
        return [
            f"link add eth{number} type veth peer name peer{number}",
            f"link set eth{number} address {MAC} up",
            f"link set peer{number} up",
            f"addr add 172.{18 + number}.0.2/24 dev eth{number}",
            f"addr add fd1{2 + number}::2/64 dev eth{number} nodad",
        ]


@pytest.fixture(scope="module")
def crossing() -> Iterator[Crossing]:
    made = Crossing()
    yield made
    made.underlay.close()


class Node:
    """The datapath of the crossing. Neighbours have been seen to, unless a test says otherwise."""

    def __init__(self, crossing: Crossing, make: Callable[..., Datapath], **constants: object) -> None:
        routers = {f"router{version}": ip_address(address) for version, address in ROUTER_ON_NODE.items()}
        self.crossing = crossing
        self.datapath = make(services=1, **{"routing_mode": RoutingMode.NATIVE, **routers, **constants})
        for version in FAMILIES:
            self.datapath.node_address(NODE[version])
            self.datapath.node_address(ROUTER_ON_NODE[version])
        self.device(crossing.eth0)
        self._slots = 0

    def device(self, ifindex: int, **fields: object) -> None:
        row = {"masquerade4": encoded(NODE[4]), "masquerade6": encoded(NODE[6]), "mac": list(mac_bytes(MAC)), **fields}
        self.datapath.put("cilium_netdev", ifindex, row)

    def service(self, version: int, *backends: str, protocol: int = 6, target: int = TARGET, number: int = 1, **fields: int) -> None:
        self._slots += 10
        for place, backend in enumerate(backends, self._slots):
            record = {"address": encoded(backend), "port": target, "protocol": protocol}
            self.datapath.put("cilium_lb_backends", place, record)
            self.datapath.put("cilium_lb_slots", place, place)
        key = {"address": encoded(VIP[version]), "port": PORT, "protocol": protocol, "scope": ServiceScope.EXTERNAL}
        value = {"id": number, "slots": self._slots, "count": len(backends), **fields}
        self.datapath.put("cilium_lb_services", key, value)

    def both_protocols(self, version: int, *backends: str, **fields: int) -> None:
        for protocol in (6, 17):
            self.service(version, *backends, protocol=protocol, **fields)

    def wire(self, packet: Packet | bytes) -> Outcome:
        with inside(self.crossing.namespace):
            return self.datapath.run_frame("from_wire", packet, ifindex=self.crossing.eth0)

    def tc(self, packet: Packet | bytes) -> Outcome:
        with inside(self.crossing.namespace):
            return self.datapath.run("from_netdev", packet, ifindex=self.crossing.eth0)

    def ready(self, packet: Packet) -> None:
        """The first packet to a neighbour is the kernel's."""
        assert self.wire(packet).verdict == XDP_PASS


@pytest.fixture
def node(crossing: Crossing, make_datapath: Callable[..., Datapath]) -> Node:
    return Node(crossing, make_datapath)


def asks(make: Callable[..., Packet], version: int, sport: int = 62000, dport: int = PORT, **fields: object) -> Packet:
    return make(WORLD[version], VIP[version], sport, dport, **fields)


def network(packet: Packet) -> Packet:
    return packet[IPv6] if IPv6 in packet else packet[IP]


def left_alone(outcome: Outcome, packet: Packet) -> bool:
    return outcome.verdict == XDP_PASS and outcome.data == bytes(packet)


@both
@transports
def test_there_and_back_as_tc_does_it(node: Node, version: int, make: Callable[..., Packet]) -> None:
    node.both_protocols(version, BACKEND[version])
    node.ready(asks(make, version, 61999))
    request = asks(make, version)
    there = node.wire(request)
    assert there.verdict == XDP_TX
    sent = network(there.packet)
    assert (sent.src, sent.dst, sent.payload.sport, sent.payload.dport) == (NODE[version], BACKEND[version], 62000, TARGET)
    assert (there.packet.src, there.packet.dst) == (MAC, GATEWAY_MAC)
    assert checksums_hold(there.data)
    by_tc = node.tc(request)
    assert by_tc.verdict == REDIRECT
    assert by_tc.data[14:] == there.data[14:]

    reply = make(BACKEND[version], NODE[version], TARGET, 62000)
    back = node.wire(reply)
    assert back.verdict == XDP_TX
    received = network(back.packet)
    assert (received.src, received.dst, received.payload.sport, received.payload.dport) == (VIP[version], WORLD[version], PORT, 62000)
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
    node.service(version, BESIDE[version], target=TARGET)
    for sport in (61998, 61999):
        assert node.wire(asks(tcp, version, sport)).verdict == XDP_PASS
    node.device(node.crossing.eth1, flags=NetdevFlags.TAKES_FRAMES)
    node.ready(asks(tcp, version, 61997))
    found = node.wire(asks(tcp, version))
    assert found.verdict == XDP_REDIRECT
    assert found.packet.dst == BESIDE_MAC
    assert checksums_hold(found.data)


@both
def test_the_kernel_sees_a_packet_now_and_then(node: Node, version: int) -> None:
    """It must ask neighbours anew; only packets that begin something, or come after a pause, go there."""
    node.service(version, BACKEND[version])
    request = asks(tcp, version)
    assert left_alone(node.wire(request), request)
    assert [node.wire(asks(tcp, version, 62000 + n)).verdict for n in range(3)] == [XDP_TX] * 3


@both
@pytest.mark.parametrize(
    "change",
    ["other", "vlan", "options", "fragment", "ttl", "short", "icmp", "error", "nobody", "local", "host", "pod", "truncated"],
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
        out = node.datapath.run("to_netdev", tcp(pod, WORLD[version], 62005, 443), came_from=5, ifindex=node.crossing.eth0)
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
def test_silent_drops_are_counted_and_told(node: Node, version: int, reason: DropReason, fields: dict[str, int]) -> None:
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


class TestTunnel:
    @pytest.fixture(params=[TunnelProtocol.VXLAN, TunnelProtocol.GENEVE], ids=["vxlan", "geneve"])
    def kind(self, request: pytest.FixtureRequest) -> TunnelProtocol:
        return request.param

    @both
    @transports
    @pytest.mark.parametrize("outer", FAMILIES)
    def test_through_the_tunnel(
        self, crossing: Crossing, make_datapath: Callable[..., Datapath], kind: TunnelProtocol, version: int, outer: int, make: Callable[..., Packet]
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
            assert front[-8:] == bytes.fromhex("08000000" if kind == TunnelProtocol.VXLAN else "00006558") + bytes([0, 0, {4: 9, 6: 10}[version], 0])
            assert outer_checksums_hold(found.data, outer)

    @both
    def test_congestion_shows_outside(self, crossing: Crossing, make_datapath: Callable[..., Datapath], version: int) -> None:
        node = Node(crossing, make_datapath, routing_mode=RoutingMode.TUNNEL)
        node.datapath.ipcache(BACKEND[version], 3000, tunnel=PEER[version])
        node.service(version, BACKEND[version])
        node.ready(asks(tcp, version, 61999))
        for inside_, outside in ((0, 0), (1, 1), (2, 2), (3, 2)):
            packet = asks(tcp, version)
            setattr(network(packet), "tc" if version == 6 else "tos", inside_)
            sent = network(node.wire(packet).packet)
            assert (sent.tc if version == 6 else sent.tos) == outside

    def test_what_has_no_checksum_cannot_get_one_outside(self, crossing: Crossing, make_datapath: Callable[..., Datapath]) -> None:
        for outer, verdict in ((4, XDP_TX), (6, XDP_PASS)):
            node = Node(crossing, make_datapath, routing_mode=RoutingMode.TUNNEL)
            node.datapath.ipcache(BACKEND[4], 3000, tunnel=PEER[outer])
            node.both_protocols(4, BACKEND[4])
            node.ready(asks(udp, 4, 61999))
            packet = asks(udp, 4)
            packet[UDP].chksum = 0
            assert node.wire(packet).verdict == verdict

    @both
    def test_replies_come_encapsulated_and_are_tcs(self, crossing: Crossing, make_datapath: Callable[..., Datapath], version: int) -> None:
        node = Node(crossing, make_datapath, routing_mode=RoutingMode.TUNNEL)
        reply = udp(PEER[version], NODE[version], 50000, 8472)
        assert left_alone(node.wire(reply), reply)

    @both
    def test_backends_on_hosts_need_no_tunnel(self, crossing: Crossing, make_datapath: Callable[..., Datapath], version: int) -> None:
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
