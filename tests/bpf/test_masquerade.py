"""Masquerading: out with the node's address and a port that nobody else has, back to the pod; every checksum holds."""

from __future__ import annotations

import ipaddress

import numpy as np
import pytest
from bpf.harness import LOOPBACK, OK, REDIRECT, Datapath, Outcome, encoded
from bpf.packets import CLIENT, FAMILIES, NODE, REMOTE, WORLD, checksums_hold, echo, ip, tcp, udp
from scapy.layers.inet import ICMP, IP, TCP, UDP, ICMPerror, IPerror, TCPerror, UDPerror, fragment
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, IPerror6, IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet

from cilium.datapath.generated import NAT_ENTRY, NAT_KEY
from cilium.datapath.generated.enums import DropReason, NatDirection, ObservationPoint, RoutingMode

LOW, HIGH = 61000, 65535
POD_DEVICE = 5


class Node:
    def __init__(self, datapath: Datapath, version: int) -> None:
        self.datapath, self.version = datapath, version
        self.pod, self.world, self.node = CLIENT[version], WORLD[version], NODE[version]
        datapath.endpoint(self.pod, 1000, id=11, ifindex=POD_DEVICE, mac="02:00:00:00:00:01")
        datapath.node_address(self.node)
        row = {"masquerade4": encoded(NODE[4]), "masquerade6": encoded(NODE[6])}
        datapath.put("cilium_netdev", LOOPBACK, row)

    def out(self, packet: Packet) -> Outcome:
        return self.datapath.run("to_netdev", packet, came_from=POD_DEVICE)

    def back(self, packet: Packet) -> Outcome:
        return self.datapath.run("from_netdev", packet)

    def mappings(self) -> int:
        return len(self.datapath.map("cilium_snat").dump()[0])


@pytest.fixture(params=FAMILIES)
def node(request: pytest.FixtureRequest, datapath: Datapath) -> Node:
    return Node(datapath, request.param)


def network(packet: Packet) -> Packet:
    return packet[IPv6] if IPv6 in packet else packet[IP]


@pytest.mark.parametrize(("make", "layer"), [(tcp, TCP), (udp, UDP)])
def test_ports_there_and_back(node: Node, make, layer) -> None:
    result = node.out(make(node.pod, node.world, 40000, 443))
    assert result.verdict == OK
    sent = network(result.packet)
    assert (sent.src, sent.dst, sent[layer].dport) == (node.node, node.world, 443)
    assert LOW <= sent[layer].sport <= HIGH
    assert checksums_hold(result.data)
    (event,) = result.events
    assert event["point"] == ObservationPoint.TO_NETWORK
    assert event["source_port"] == 40000
    assert bytes(event["translated"]) == bytes(encoded(node.node))
    assert event["translated_port"] == sent[layer].sport

    reply = make(node.world, node.node, 443, sent[layer].sport)
    result = node.back(reply)
    assert result.verdict == REDIRECT
    received = network(result.packet)
    assert (received.src, received.dst, received[layer].dport) == (node.world, node.pod, 40000)
    assert checksums_hold(result.data)
    assert result.packet.dst == "02:00:00:00:00:01"


def test_a_flow_keeps_its_mapping(node: Node) -> None:
    ports = {node.out(tcp(node.pod, node.world)).packet[TCP].sport for _ in range(5)}
    assert len(ports) == 1
    assert node.mappings() == 2


def test_a_port_in_range_is_kept(node: Node) -> None:
    assert node.out(tcp(node.pod, node.world, 62000)).packet[TCP].sport == 62000


def test_no_two_flows_share_a_port(node: Node) -> None:
    ports = [node.out(tcp(node.pod, node.world, sport)).packet[TCP].sport for sport in range(20000, 20200)]
    assert len(set(ports)) == len(ports)
    other = node.out(tcp(node.pod, node.world, ports[0]))  # wants a port that is taken
    assert other.packet[TCP].sport not in ports


def test_without_a_free_port_it_drops(make_datapath) -> None:
    node = Node(make_datapath(nat_port_min=61000, nat_port_max=61002), 4)
    assert [node.out(udp(node.pod, node.world, port)).drop for port in range(1000, 1004)] == [
        0,
        0,
        0,
        DropReason.NO_MAPPING_FOR_NAT_MASQUERADE,
    ]
    elsewhere = node.out(udp(node.pod, "192.0.2.77", 1000))
    assert elsewhere.drop == 0  # ports are per destination


LONG_AGO = 1  # ns after boot


def age(datapath: Datapath, port: int) -> None:
    """The mapping with this translated port was last used long ago."""
    snat = datapath.map("cilium_snat")
    keys, values = snat.dump()
    incoming = keys["direction"] == NatDirection.REVERSE
    of_port = np.where(incoming, keys["destination_port"], values["source_port"]) == port
    values["used"][of_port] = LONG_AGO
    snat.update(keys, values)


@pytest.mark.parametrize("version", FAMILIES)
def test_a_closed_connection_gives_its_port_back(make_datapath, version: int) -> None:
    node = Node(make_datapath(nat_port_min=61000, nat_port_max=61001, ct_tcp_established=1 << 62), version)
    first, second = (node.out(tcp(node.pod, node.world, port)).packet[TCP].sport for port in (1000, 1001))
    for sport, port in ((1000, first), (1001, second)):
        node.back(tcp(node.world, node.node, 80, port, flags="SA"))
        node.out(tcp(node.pod, node.world, sport, flags="FA"))
    node.back(tcp(node.world, node.node, 80, first, flags="FA"))
    assert node.out(tcp(node.pod, node.world, 1002)).drop == DropReason.NO_MAPPING_FOR_NAT_MASQUERADE, "too young"
    for port in (first, second):
        age(node.datapath, port)
    result = node.out(tcp(node.pod, node.world, 1002))
    assert (result.drop, result.packet[TCP].sport) == (0, first)
    assert node.mappings() == 4, "nothing is left of the closed one"
    assert node.out(tcp(node.pod, node.world, 1003)).drop == DropReason.NO_MAPPING_FOR_NAT_MASQUERADE, "half closed"
    reply = node.back(tcp(node.world, node.node, 80, first, flags="SA"))
    assert reply.packet[TCP].dport == 1002


@pytest.mark.parametrize("end", ["pod", "world"])
def test_a_reset_closes_and_a_syn_opens_anew(make_datapath, end: str) -> None:
    node = Node(make_datapath(nat_port_min=61000, nat_port_max=61000, ct_tcp_syn=1 << 62), 4)

    def reset() -> None:
        if end == "pod":
            node.out(tcp(node.pod, node.world, 1000, flags="R"))
        else:
            node.back(tcp(node.world, node.node, 80, 61000, flags="RA"))

    node.out(tcp(node.pod, node.world, 1000))
    reset()
    node.out(tcp(node.pod, node.world, 1000))
    age(node.datapath, 61000)
    assert node.out(tcp(node.pod, node.world, 1001)).drop == DropReason.NO_MAPPING_FOR_NAT_MASQUERADE
    reset()
    age(node.datapath, 61000)
    assert node.out(tcp(node.pod, node.world, 1001)).packet[TCP].sport == 61000


def test_a_silent_datagram_flow_gives_its_port_back(make_datapath) -> None:
    node = Node(make_datapath(nat_port_min=61000, nat_port_max=61000, ct_any=1_000_000_000), 4)
    for make, back in ((udp, lambda: udp(node.world, node.node, 53, 61000)), (echo, None)):
        identifiers = (1000, 1001)
        node.out(make(node.pod, node.world, identifiers[0]))
        if back is not None:
            node.back(back())
        assert node.out(make(node.pod, node.world, identifiers[1])).drop == DropReason.NO_MAPPING_FOR_NAT_MASQUERADE
        age(node.datapath, 61000)
        assert node.out(make(node.pod, node.world, identifiers[1])).drop == 0
    assert node.mappings() == 4


def test_echo_identifiers(node: Node) -> None:
    result = node.out(echo(node.pod, node.world, 7))
    layer = ICMP if node.version == 4 else ICMPv6EchoRequest
    number = result.packet[layer].id
    assert LOW <= number <= HIGH
    assert network(result.packet).src == node.node
    assert checksums_hold(result.data)
    result = node.back(echo(node.world, node.node, number, reply=True))
    assert result.verdict == REDIRECT
    assert network(result.packet).dst == node.pod
    assert result.packet[ICMP if node.version == 4 else ICMPv6EchoReply].id == 7
    assert checksums_hold(result.data)


def test_udp_without_checksum_stays_without(datapath: Datapath) -> None:
    node = Node(datapath, 4)
    packet = ip(node.pod, node.world) / UDP(sport=40000, dport=53, chksum=0) / b"ask"
    result = node.out(packet)
    assert result.packet[UDP].chksum == 0
    assert network(result.packet).src == node.node


def quoted(outcome: Outcome, version: int, length: int = 8) -> bytes:
    return bytes(outcome.packet.payload)[: (20 if version == 4 else 40) + length]


@pytest.mark.parametrize("make", [tcp, udp, echo])
def test_errors_from_the_world_find_the_pod(node: Node, make) -> None:
    sent = node.out(make(node.pod, node.world))
    message = ICMP(type=3, code=1) if node.version == 4 else ICMPv6DestUnreach(code=3)
    router = "198.51.100.1" if node.version == 4 else "2001:db8:1::1"
    result = node.back(ip(router, node.node) / message / quoted(sent, node.version))
    assert result.verdict == REDIRECT
    assert network(result.packet).dst == node.pod
    inner = result.packet[IPerror if node.version == 4 else IPerror6]
    assert (inner.src, inner.dst) == (node.pod, node.world)
    original = make(node.pod, node.world)
    inner_bytes, header = bytes(inner), 20 if node.version == 4 else 40
    port_at = header + (4 if make is echo else 0)
    assert inner_bytes[port_at : port_at + 2] == bytes(original.payload)[port_at : port_at + 2]
    assert checksums_hold(result.data)
    if node.version == 4:
        assert ones_complement(inner_bytes[:20]) == 0xFFFF


def ones_complement(data: bytes) -> int:
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_errors_of_the_pod_reach_the_world(node: Node) -> None:
    sent = node.out(udp(node.pod, node.world))
    port = sent.packet[UDP].sport
    answer = udp(node.world, node.pod, 53, 40000)
    message = ICMP(type=3, code=3) if node.version == 4 else ICMPv6DestUnreach(code=4)
    data = bytes(answer.payload)[: (20 if node.version == 4 else 40) + 8]
    result = node.out(ip(node.pod, node.world) / message / data)
    assert result.verdict == OK
    assert network(result.packet).src == node.node
    inner = result.packet[IPerror if node.version == 4 else IPerror6]
    assert (inner.src, inner.dst, inner[UDPerror].dport) == (node.world, node.node, port)
    assert checksums_hold(result.data)


def test_an_error_about_nothing_we_sent_is_the_stacks(node: Node) -> None:
    message = ICMP(type=3, code=1) if node.version == 4 else ICMPv6DestUnreach(code=3)
    other = bytes(tcp(node.node, node.world, 62222).payload)[:48]
    packet = ip(node.world, node.node) / message / other
    result = node.back(packet)
    assert (result.verdict, result.data) == (OK, bytes(packet))


def test_other_traffic_of_the_node_is_untouched(node: Node) -> None:
    for packet in (tcp(node.world, node.node, 443, 62222), tcp(node.world, node.node, 443, 22)):
        result = node.back(packet)
        assert (result.verdict, result.data, result.events) == (OK, bytes(packet), [])
    packet = tcp(node.node, node.world)
    result = node.datapath.run("to_netdev", packet)
    assert (result.verdict, result.data, result.events) == (OK, bytes(packet), [])


@pytest.mark.parametrize("mode", list(RoutingMode))
def test_who_is_met_with_the_pods_own_address(make_datapath, mode: int) -> None:
    datapath = make_datapath(routing_mode=mode, native4=ipaddress.ip_address("198.18.0.0"), native4_bits=96 + 15)
    node = Node(datapath, 4)
    datapath.ipcache(REMOTE[4], 3000)
    datapath.ipcache("172.18.0.3", 6)
    datapath.ipcache("172.18.0.4", 2 << 24 | 5)
    datapath.ipcache("203.0.113.0/24", 1 << 24 | 9)
    datapath.ipcache("203.0.113.9", 7)
    outside = ["203.0.113.7", "203.0.113.9", "198.20.0.1"]
    inside = [REMOTE[4], "198.19.255.1", "224.0.0.5"]
    met = [*outside, *inside, "172.18.0.3", "172.18.0.4"]
    own = {address for address in met if network(node.out(udp(node.pod, address)).packet).src == node.pod}
    nodes = {"172.18.0.3", "172.18.0.4"} if mode == RoutingMode.NATIVE else set()
    assert own == {*inside, *nodes}


def test_a_device_without_an_address_drops(node: Node) -> None:
    node.datapath.put("cilium_netdev", LOOPBACK, {})
    assert node.out(tcp(node.pod, node.world)).drop == DropReason.NO_MAPPING_FOR_NAT_MASQUERADE


def test_a_device_that_is_not_ours_is_left_alone(node: Node) -> None:
    node.datapath.map("cilium_netdev").delete(np.array([LOOPBACK], np.uint32))
    assert network(node.out(tcp(node.pod, node.world)).packet).src == node.pod


def test_a_new_address_of_the_device_means_a_new_mapping(datapath: Datapath) -> None:
    node = Node(datapath, 4)
    node.out(tcp(node.pod, node.world))
    datapath.put("cilium_netdev", LOOPBACK, {"masquerade4": encoded("172.18.0.9")})
    assert network(node.out(tcp(node.pod, node.world)).packet).src == "172.18.0.9"


def test_protocols_that_cannot_be_translated(node: Node) -> None:
    for packet in (ip(node.pod, node.world) / SCTP(sport=1, dport=2), echo(node.pod, node.world)):
        if ICMP in packet:
            packet[ICMP].type = 13  # timestamp
        elif SCTP not in packet:
            continue
        assert node.out(packet).drop == DropReason.UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE


def test_fragments_are_translated_with_the_port_of_the_first(datapath: Datapath) -> None:
    node = Node(datapath, 4)
    parts = [
        Ether(dst="02:00:00:00:ff:01") / part
        for part in fragment(IP(src=node.pod, dst=node.world, id=5) / UDP(sport=40000, dport=53) / bytes(2500), 1000)
    ]
    sent = [node.out(part) for part in parts]
    assert [each.verdict for each in sent] == [OK] * 3
    assert {network(each.packet).src for each in sent} == {node.node}
    assert node.mappings() == 2
    whole = b"".join(bytes(network(each.packet).payload) for each in sent)
    datagram = IP(src=node.node, dst=node.world) / UDP(whole)
    kept = datagram[UDP].chksum
    del datagram[UDP].chksum
    assert IP(bytes(datagram))[UDP].chksum == kept  # the checksum of the whole datagram still holds
    port = datagram[UDP].sport
    answers = fragment(IP(src=node.world, dst=node.node, id=6) / UDP(sport=53, dport=port) / bytes(2500), 1000)
    back = [node.back(Ether(dst="02:00:00:00:ff:01") / part) for part in answers]
    assert {network(each.packet).dst for each in back} == {node.pod}


def test_half_of_a_mapping_evicted_is_restored(datapath: Datapath) -> None:
    node = Node(datapath, 4)
    snat = datapath.map("cilium_snat")
    port = node.out(tcp(node.pod, node.world)).packet[TCP].sport
    keys, values = (column.astype(kind) for column, kind in zip(snat.dump(), (NAT_KEY, NAT_ENTRY), strict=True))
    reverse = keys["direction"] == 1
    snat.delete(keys[reverse])
    forward = values[~reverse].copy()
    forward["used"] = 0
    snat.update(keys[~reverse], forward)
    assert node.out(tcp(node.pod, node.world)).packet[TCP].sport == port
    assert node.back(tcp(node.world, node.node, 80, port)).verdict == REDIRECT


@pytest.mark.parametrize("towards", ["world", "pod"])
def test_use_in_one_direction_keeps_both_halves(datapath: Datapath, towards: str) -> None:
    node = Node(datapath, 4)
    port = node.out(tcp(node.pod, node.world)).packet[TCP].sport
    snat = datapath.map("cilium_snat")
    keys, values = (column.astype(kind) for column, kind in zip(snat.dump(), (NAT_KEY, NAT_ENTRY), strict=True))
    values["used"] = 1
    snat.update(keys, values)
    if towards == "world":
        node.out(tcp(node.pod, node.world, flags="A"))
    else:
        node.back(tcp(node.world, node.node, 80, port, "A"))
    assert min(snat.dump()[1]["used"]) > 1


def test_ingress_policy_guards_translated_traffic_too(datapath: Datapath) -> None:
    node = Node(datapath, 4)
    port = node.out(tcp(node.pod, node.world)).packet[TCP].sport
    datapath.endpoint(node.pod, 1000, ifindex=POD_DEVICE, ingress_policy=7)
    assert node.back(tcp(node.world, node.node, 80, port, "S")).drop == DropReason.POLICY_DENIED


def test_errors_quote_a_tcp_header_in_full(datapath: Datapath) -> None:
    node = Node(datapath, 4)
    sent = node.out(tcp(node.pod, node.world))
    result = node.back(ip(node.world, node.node) / ICMP(type=3, code=4) / quoted(sent, 4, 20))
    assert result.packet[TCPerror].sport == 40000
    assert ICMPerror not in result.packet
