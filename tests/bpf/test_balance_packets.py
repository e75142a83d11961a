"""Services, packet by packet: what a client's packet becomes on its way to a backend, and the answer on its way back;
every checksum; and what happens when ports run out, backends go and halves of a mapping are lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bpf.harness import LOOPBACK, OK, REDIRECT, SHOT, Datapath, Outcome, encoded
from bpf.packets import CLIENT, FAMILIES, NODE, REMOTE, SERVER, WORLD, checksums_hold, ip, tcp, udp
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror
from scapy.layers.inet6 import ICMPv6DestUnreach, IPerror6, IPv6
from scapy.layers.sctp import SCTP
from scapy.packet import Packet

from cilium.datapath.generated import NAT_ENTRY, NAT_KEY
from cilium.datapath.generated.enums import (
    DropReason,
    FlowDirection,
    NatDirection,
    NatFlags,
    RoutingMode,
    ServiceScope,
)

VIP = {4: "198.51.100.7", 6: "2001:db8:7::7"}
PORT, TARGET = 80, 8080
LOW, HIGH = 61000, 65535


class Balancer:
    """A node that forwards to backends of other nodes; the kernel's routes know none of it, so packets end in the
    stack, translated."""

    def __init__(self, datapath: Datapath, version: int) -> None:
        self.datapath, self.version = datapath, version
        self.client, self.vip, self.node = WORLD[version], VIP[version], NODE[version]
        self.backend = REMOTE[version]
        datapath.node_address(self.node)
        datapath.put("cilium_netdev", LOOPBACK, {"masquerade4": encoded(NODE[4]), "masquerade6": encoded(NODE[6])})
        for protocol in (6, 17, 132):
            self.service(1, self.backend, protocol=protocol, target=PORT if protocol == 132 else TARGET)

    def service(
        self,
        number: int,
        *backends: str,
        address: str = "",
        protocol: int = 6,
        target: int = TARGET,
        scope: int = ServiceScope.EXTERNAL,
        **fields: Any,
    ) -> None:
        start = number * 100 + protocol
        for place, backend in enumerate(backends):
            record = {"address": encoded(backend), "port": target, "protocol": protocol}
            self.datapath.put("cilium_lb_backends", start + place, record)
            self.datapath.put("cilium_lb_slots", start + place, start + place)
        key = {"address": encoded(address or self.vip), "port": PORT, "protocol": protocol, "scope": scope}
        value = {"id": number, "slots": start, "count": len(backends), **fields}
        self.datapath.put("cilium_lb_services", key, value)

    def ask(self, packet: Packet) -> Outcome:
        return self.datapath.run("from_netdev", packet)

    def syn(self, sport: int = 40000, flags: str = "S", to: str = "") -> Outcome:
        return self.ask(tcp(self.client, to or self.vip, sport, PORT, flags))

    def answer(self, port: int, flags: str = "SA") -> Outcome:
        return self.ask(tcp(self.backend, self.node, TARGET, port, flags))

    def mappings(self) -> tuple[Any, Any]:
        keys, values = self.datapath.map("cilium_snat").dump()
        return keys.astype(NAT_KEY), values.astype(NAT_ENTRY)


@pytest.fixture(params=FAMILIES)
def balancer(request: pytest.FixtureRequest, make_datapath) -> Balancer:
    return Balancer(make_datapath(services=1, routing_mode=RoutingMode.NATIVE), request.param)


def network(packet: Packet) -> Packet:
    return packet[IPv6] if IPv6 in packet else packet[IP]


@pytest.mark.parametrize(("make", "layer"), [(tcp, TCP), (udp, UDP)])
def test_there_and_back(balancer: Balancer, make, layer) -> None:
    there = balancer.ask(make(balancer.client, balancer.vip, 40000, PORT))
    assert there.verdict == OK
    sent = network(there.packet)
    assert (sent.src, sent.dst, sent[layer].dport) == (balancer.node, balancer.backend, TARGET)
    assert LOW <= sent[layer].sport <= HIGH
    assert checksums_hold(there.data)
    back = balancer.ask(make(balancer.backend, balancer.node, TARGET, sent[layer].sport))
    received = network(back.packet)
    assert (received.src, received.dst) == (balancer.vip, balancer.client)
    assert (received[layer].sport, received[layer].dport) == (PORT, 40000)
    assert checksums_hold(back.data)


def test_of_sctp_only_addresses_change(balancer: Balancer) -> None:
    packet = ip(balancer.client, balancer.vip) / SCTP(sport=4000, dport=PORT) / b"chunks"
    there = balancer.ask(packet)
    assert network(there.packet).dst == balancer.backend
    assert bytes(network(there.packet)[SCTP]) == bytes(packet[SCTP])  # its CRC still holds
    back = balancer.ask(ip(balancer.backend, balancer.node) / SCTP(sport=PORT, dport=4000) / b"chunks")
    assert (network(back.packet).src, network(back.packet).dst) == (balancer.vip, balancer.client)


def test_sctp_cannot_change_ports(balancer: Balancer) -> None:
    balancer.service(3, balancer.backend, protocol=132, target=9)
    packet = ip(balancer.client, balancer.vip) / SCTP(sport=4000, dport=PORT) / b"chunks"
    assert balancer.ask(packet).drop == DropReason.UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE


def test_a_datagram_without_checksum_stays_without(make_datapath) -> None:
    balancer = Balancer(make_datapath(services=1, routing_mode=RoutingMode.NATIVE), 4)
    packet = ip(balancer.client, balancer.vip) / UDP(sport=4000, dport=PORT, chksum=0) / b"ask"
    assert balancer.ask(packet).packet[UDP].chksum == 0


def test_two_clients_with_one_port_get_two(balancer: Balancer) -> None:
    other = {4: "192.0.2.10", 6: "2001:db8::10"}[balancer.version]
    ports = {
        network(balancer.ask(tcp(client, balancer.vip, 62000, PORT)).packet)[TCP].sport
        for client in (balancer.client, other)
    }
    assert len(ports) == 2


def test_one_client_asks_two_services_with_one_backend(balancer: Balancer) -> None:
    """The same ports towards the same backend: what the backend sees must differ, and each gets its own answer."""
    second = {4: "198.51.100.8", 6: "2001:db8:7::8"}[balancer.version]
    balancer.service(2, balancer.backend, address=second)
    for vip in (balancer.vip, second):
        port = network(balancer.syn(62001, to=vip).packet)[TCP].sport
        assert network(balancer.answer(port).packet).src == vip


def test_a_pod_asks_two_services_with_one_backend(balancer: Balancer) -> None:
    """The pod's address stays; so the port must not."""
    pod, second = CLIENT[balancer.version], {4: "198.51.100.8", 6: "2001:db8:7::8"}[balancer.version]
    balancer.datapath.endpoint(pod, 1000)
    balancer.service(4, balancer.backend, scope=ServiceScope.CLUSTER)
    balancer.service(5, balancer.backend, address=second, scope=ServiceScope.CLUSTER)
    sent = [balancer.datapath.run("from_lxc", tcp(pod, vip, 40000, PORT)) for vip in (balancer.vip, second)]
    assert [network(each.packet).src for each in sent] == [pod, pod]
    ports = [network(each.packet)[TCP].sport for each in sent]
    assert ports[0] == 40000
    assert ports[1] != 40000
    for vip, port in zip((balancer.vip, second), ports, strict=True):
        back = balancer.datapath.run("from_netdev", tcp(balancer.backend, pod, TARGET, port, "SA"))
        assert back.verdict == REDIRECT
        received = network(back.packet)
        assert (received.src, received[TCP].sport, received[TCP].dport) == (vip, PORT, 40000)
        assert checksums_hold(back.data)


def test_the_same_connection_keeps_its_backend_and_port(balancer: Balancer) -> None:
    backends = [balancer.backend, *({4: ["10.0.1.6", "10.0.1.7"], 6: ["fd01::6", "fd01::7"]}[balancer.version])]
    balancer.service(1, *backends)
    first = network(balancer.syn().packet)
    for flags in ("S", "A", "PA", "S"):
        again = network(balancer.syn(flags=flags).packet)
        assert (again.dst, again[TCP].sport) == (first.dst, first[TCP].sport)


def test_a_stream_goes_on_with_a_pod_that_left_the_service(balancer: Balancer) -> None:
    """Unless the pod is gone: then another backend is asked and resets it, and the client is free to connect anew."""
    other = {4: "10.0.1.6", 6: "fd01::6"}[balancer.version]
    bits = 32 if balancer.version == 4 else 128
    balancer.datapath.ipcache(f"{balancer.backend}/{bits}", 3000)
    port = network(balancer.syn().packet)[TCP].sport
    balancer.answer(port)
    balancer.service(9, other)
    balancer.datapath.put("cilium_lb_backends", 106, {})
    assert network(balancer.syn(flags="A").packet).dst == balancer.backend
    assert network(balancer.syn(40001).packet).dst == other
    balancer.datapath.drop_rows("cilium_ipcache")
    assert network(balancer.syn(flags="A").packet).dst == other


def test_a_connection_that_nobody_answered_looks_for_another_backend(balancer: Balancer) -> None:
    other = {4: "10.0.1.6", 6: "fd01::6"}[balancer.version]
    balancer.syn()
    balancer.service(9, other)
    balancer.datapath.put("cilium_lb_backends", 106, {})
    assert network(balancer.syn().packet).dst == other


def test_connections_spread_over_backends(balancer: Balancer) -> None:
    others = {4: ["10.0.1.6", "10.0.1.7"], 6: ["fd01::6", "fd01::7"]}[balancer.version]
    balancer.service(1, balancer.backend, *others)
    met = {network(balancer.syn(30000 + number).packet).dst for number in range(60)}
    assert met == {balancer.backend, *others}


@pytest.mark.parametrize("version", FAMILIES)
def test_ports_run_out_and_come_back(make_datapath, version: int) -> None:
    datapath = make_datapath(services=1, routing_mode=RoutingMode.NATIVE, nat_port_min=61000, nat_port_max=61001)
    balancer = Balancer(datapath, version)
    ports = [network(balancer.syn(sport).packet)[TCP].sport for sport in (1000, 1001)]
    assert sorted(ports) == [61000, 61001]
    assert balancer.syn(1002).drop == DropReason.NO_MAPPING_FOR_NAT_MASQUERADE
    balancer.answer(ports[0], "RA")
    assert balancer.syn(1002).drop == DropReason.NO_MAPPING_FOR_NAT_MASQUERADE, "what is late must not meet another"
    keys, values = balancer.mappings()
    closed = (values["flags"] & NatFlags.CLOSED) != 0
    assert closed.sum() == 2
    values["used"][closed] -= 200_000_000  # 0.2 s, which is not dead, but enough where there is no other port
    datapath.map("cilium_snat").update(keys, values)
    assert network(balancer.syn(1002).packet)[TCP].sport == ports[0]
    assert network(balancer.answer(ports[0]).packet)[TCP].dport == 1002
    assert balancer.syn(1001, "A").verdict == OK, "who lives is not disturbed"


def test_a_client_that_uses_its_port_again_gets_the_same(balancer: Balancer) -> None:
    """Or connections that come and go fast would use up all ports of the node while the old ones rest."""
    ports = set()
    for _ in range(5):
        ports.add(port := network(balancer.syn().packet)[TCP].sport)
        balancer.answer(port)
        balancer.syn(flags="FA")
        balancer.answer(port, "FA")
    assert len(ports) == 1


def test_half_of_a_mapping_evicted_is_restored(balancer: Balancer) -> None:
    port = network(balancer.syn().packet)[TCP].sport
    snat = balancer.datapath.map("cilium_snat")
    keys, values = balancer.mappings()
    reverse = keys["direction"] == NatDirection.REVERSE
    snat.delete(keys[reverse])
    values["used"] -= 2_000_000_000  # the two are compared once a second
    snat.update(keys[~reverse], values[~reverse])
    assert network(balancer.syn(flags="A").packet)[TCP].sport == port
    assert network(balancer.answer(port).packet).dst == balancer.client


def test_masquerading_and_services_share_ports(make_datapath) -> None:
    """A pod's own connection to the same address and port cannot get the port of a client's."""
    datapath = make_datapath(services=1, nat_port_min=61000, nat_port_max=61001)
    balancer = Balancer(datapath, 4)
    balancer.service(1, "192.0.2.50", target=PORT)
    pod = CLIENT[4]
    datapath.endpoint(pod, 1000, ifindex=5)
    one = network(balancer.syn(1000).packet)[TCP].sport
    out = datapath.run("to_netdev", tcp(pod, "192.0.2.50", 1000, PORT), came_from=5)
    assert {one, network(out.packet)[TCP].sport} == {61000, 61001}
    assert balancer.syn(1001).drop == DropReason.NO_MAPPING_FOR_NAT_MASQUERADE


@pytest.mark.parametrize("router", [False, True])
def test_an_error_about_a_request_reaches_the_client(balancer: Balancer, router: bool) -> None:
    """In the backend's stead the service speaks; a router on the way has its own name."""
    sent = balancer.ask(udp(balancer.client, balancer.vip, 40000, PORT))
    header = 20 if balancer.version == 4 else 40
    message = ICMP(type=3, code=3) if balancer.version == 4 else ICMPv6DestUnreach(code=4)
    reporter = {4: "203.0.113.1", 6: "2001:db8:1::1"}[balancer.version] if router else balancer.backend
    back = balancer.ask(ip(reporter, balancer.node) / message / bytes(sent.packet.payload)[: header + 8])
    assert (network(back.packet).src, network(back.packet).dst) == (
        reporter if router else balancer.vip,
        balancer.client,
    )
    inner = back.packet[IPerror if balancer.version == 4 else IPerror6]
    assert (inner.src, inner.dst) == (balancer.client, balancer.vip)
    assert bytes(inner)[header : header + 4] == (40000).to_bytes(2, "big") + PORT.to_bytes(2, "big")
    assert checksums_hold(back.data)


def test_an_error_about_an_answer_reaches_the_backend(balancer: Balancer) -> None:
    sent = balancer.ask(udp(balancer.client, balancer.vip, 40000, PORT))
    port = network(sent.packet)[UDP].sport
    answer = balancer.ask(udp(balancer.backend, balancer.node, TARGET, port))
    header = 20 if balancer.version == 4 else 40
    message = ICMP(type=3, code=3) if balancer.version == 4 else ICMPv6DestUnreach(code=4)
    error = balancer.ask(ip(balancer.client, balancer.vip) / message / bytes(answer.packet.payload)[: header + 8])
    outer = network(error.packet)
    assert (outer.src, outer.dst) == (balancer.node, balancer.backend)
    inner = error.packet[IPerror if balancer.version == 4 else IPerror6]
    assert (inner.src, inner.dst) == (balancer.backend, balancer.node)
    assert bytes(inner)[header : header + 4] == TARGET.to_bytes(2, "big") + port.to_bytes(2, "big")
    assert checksums_hold(error.data)


@pytest.mark.parametrize(("flags", "ack"), [("S", 1001 + 4), ("A", 0), ("FA", 0)])
def test_a_refusal_of_tcp_is_a_reset_for_this_segment(balancer: Balancer, flags: str, ack: int) -> None:
    balancer.service(1)
    packet = ip(balancer.client, balancer.vip) / TCP(sport=4000, dport=PORT, flags=flags, seq=1000, ack=7) / b"data"
    result = balancer.ask(packet)
    assert result.verdict == REDIRECT
    answer = network(result.packet)
    assert (answer.src, answer.dst) == (balancer.vip, balancer.client)
    reset = answer[TCP]
    assert (reset.sport, reset.dport) == (PORT, 4000)
    assert "R" in reset.flags
    assert (reset.ack, reset.seq) == ((ack, 0) if "A" not in flags else (0, 7))
    assert checksums_hold(result.data)
    assert [int(event["reason"]) for event in result.events] == [DropReason.SERVICE_BACKEND_NOT_FOUND]


def test_a_reset_is_not_answered(balancer: Balancer) -> None:
    balancer.service(1)
    assert balancer.syn(flags="R").verdict == SHOT


def test_a_refusal_of_udp_quotes_what_was_asked(balancer: Balancer) -> None:
    balancer.service(1, protocol=17)
    packet = udp(balancer.client, balancer.vip, 4000, PORT, b"a longer question than fits")
    result = balancer.ask(packet)
    assert result.verdict == REDIRECT
    answer = network(result.packet)
    assert (answer.src, answer.dst) == (balancer.vip, balancer.client)
    inner = result.packet[IPerror if balancer.version == 4 else IPerror6]
    assert (inner.src, inner.dst) == (balancer.client, balancer.vip)
    assert checksums_hold(result.data)


def test_a_backend_of_this_node_sees_the_client(balancer: Balancer) -> None:
    pod = SERVER[balancer.version]
    balancer.datapath.endpoint(pod, 2000)
    balancer.service(1, pod)
    result = balancer.syn()
    assert result.verdict == REDIRECT
    assert (network(result.packet).src, network(result.packet)[TCP].sport) == (balancer.client, 40000)
    answer = balancer.datapath.run("from_lxc", tcp(pod, balancer.client, TARGET, 40000, "SA"))
    assert (network(answer.packet).src, network(answer.packet)[TCP].sport) == (balancer.vip, PORT)
    assert checksums_hold(answer.data)


def test_what_is_for_the_node_itself_is_left_alone(balancer: Balancer) -> None:
    for packet in (tcp(balancer.client, balancer.node, 4000, 22), udp(balancer.client, balancer.node, 4000, 8472)):
        result = balancer.ask(packet)
        assert (result.verdict, result.data) == (OK, bytes(packet))
    assert len(balancer.mappings()[0]) == 0


def test_without_hops_left_the_stack_answers_about_what_was_asked(balancer: Balancer) -> None:
    hops = {"ttl": 1} if balancer.version == 4 else {"hlim": 1}
    packet = tcp(balancer.client, balancer.vip, 40000, PORT, **hops)
    result = balancer.ask(packet)
    assert (result.verdict, result.data) == (OK, bytes(packet))


def test_what_passes_through_is_counted(balancer: Balancer) -> None:
    port = network(balancer.syn().packet)[TCP].sport
    assert balancer.datapath.count(0, FlowDirection.INGRESS) == 1
    balancer.answer(port)
    assert balancer.datapath.count(0, FlowDirection.INGRESS) == 2


def test_choices_are_even(balancer: Balancer) -> None:
    others = {4: ["10.0.1.6", "10.0.1.7"], 6: ["fd01::6", "fd01::7"]}[balancer.version]
    balancer.service(1, balancer.backend, *others)
    met = [network(balancer.syn(20000 + number).packet).dst for number in range(900)]
    counts = np.unique(met, return_counts=True)[1]
    assert counts.min() > 200, counts  # 300 each, 7 standard deviations away
