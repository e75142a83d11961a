"""What an attacker in a pod would try: packets that claim to be what no policy looks at."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from bpf.harness import OK, REDIRECT, Datapath
from bpf.nodes import Node, Underlay, inside
from bpf.packets import CLIENT, FAMILIES, NODE, REMOTE, SERVER, WORLD, ip, tcp, udp
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

from cilium.datapath.generated.enums import DropReason, EndpointFlags, EventType, RoutingMode

EGRESS, INGRESS = 5, 7
PROHIBITED = DropReason.ENCAPSULATION_TRAFFIC_IS_PROHIBITED
CRAFTED = ["A", "SA", "PA", "R", "FA", ""]


@pytest.fixture(params=FAMILIES)
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


# ------------------------------------------------------------------------------------ answers to nobody's question


@pytest.mark.parametrize("flags", CRAFTED)
def test_a_pod_that_may_send_nothing_answers_nobody(datapath: Datapath, version: int, flags: str) -> None:
    """Ingress is open: whoever asks gets an answer. That is no leave to speak first."""
    datapath.endpoint(CLIENT[version], 1000, id=11, egress_policy=EGRESS)
    for sport, dport in ((22, 443), (443, 22)):
        packet = tcp(CLIENT[version], WORLD[version], sport, dport, flags)
        assert datapath.run("from_lxc", packet).drop == DropReason.POLICY_DENIED
    assert datapath.run("to_lxc", tcp(WORLD[version], CLIENT[version], 443, 22)).verdict == OK
    assert datapath.run("from_lxc", tcp(CLIENT[version], WORLD[version], 22, 443, "SA")).verdict == OK


@pytest.mark.parametrize("flags", CRAFTED)
def test_a_closed_pod_gets_no_answer_it_did_not_ask_for(datapath: Datapath, version: int, flags: str) -> None:
    datapath.endpoint(CLIENT[version], 1000, id=11)
    datapath.endpoint(SERVER[version], 2000, id=22, ifindex=77, ingress_policy=INGRESS)
    for sport, dport in ((22, 8080), (8080, 22)):
        packet = tcp(CLIENT[version], SERVER[version], sport, dport, flags)
        assert datapath.run("from_lxc", packet).drop == DropReason.POLICY_DENIED
    assert datapath.connections() == []


def test_only_the_end_that_came_under_a_policy_takes_over(datapath: Datapath) -> None:
    adopting, settled = {"flags": EndpointFlags.ADOPTING}, {"egress_policy": EGRESS}
    datapath.endpoint(CLIENT[4], 1000, id=11, **settled)
    datapath.endpoint(SERVER[4], 2000, id=22, ifindex=77, ingress_policy=INGRESS, **adopting)
    assert datapath.run("from_lxc", tcp(CLIENT[4], SERVER[4], 22, 8080, "A")).drop == DropReason.POLICY_DENIED
    datapath.endpoint(CLIENT[4], 1000, id=11, **settled, **adopting)
    assert datapath.run("from_lxc", tcp(CLIENT[4], SERVER[4], 22, 8080, "A")).verdict == REDIRECT


# ------------------------------------------------------------------------------------------- whose connection it is


@pytest.mark.parametrize("protocol", [tcp, udp])
def test_a_pod_inherits_no_connections_with_its_address(datapath: Datapath, version: int, protocol) -> None:
    remote, address = REMOTE[version], CLIENT[version]
    datapath.endpoint(address, 1000, id=11, egress_policy=0, ingress_policy=INGRESS)
    assert datapath.run("from_lxc", protocol(address, remote, 40000, 53)).verdict == OK
    answer = tcp(remote, address, 53, 40000, "A") if protocol is tcp else udp(remote, address, 53, 40000)
    assert datapath.run("to_lxc", answer).verdict == OK
    datapath.endpoint(address, 1000, id=12, egress_policy=0, ingress_policy=INGRESS)
    datapath.epoch += 1
    datapath.set_runtime()
    assert datapath.run("to_lxc", answer).drop == DropReason.POLICY_DENIED


# -------------------------------------------------------------------------------------------------- encapsulation


def cluster(datapath: Datapath, version: int) -> None:
    datapath.endpoint(CLIENT[version], 1000, id=11)
    datapath.endpoint(SERVER[version], 2000, id=22, ifindex=77)
    datapath.node_address("10.0.0.254" if version == 4 else "fd00::fe")
    bits = 32 if version == 4 else 128
    datapath.ipcache(f"{NODE[version]}/{bits}", 6)
    datapath.ipcache(f"{REMOTE[version]}/{bits}", 3000, tunnel="172.18.0.2")
    other_router = "10.0.1.254" if version == 4 else "fd01::fe"
    datapath.ipcache(f"{other_router}/{bits}", 6, tunnel="172.18.0.2")


def test_pods_do_not_speak_to_the_tunnel_port_of_nodes(make_datapath, version: int) -> None:
    datapath = make_datapath(tunnel_ifindex=1)
    cluster(datapath, version)
    node, router = ("10.0.0.254", "10.0.1.254") if version == 4 else ("fd00::fe", "fd01::fe")
    broadcast = ["255.255.255.255"] if version == 4 else []
    for destination in (node, router, NODE[version], WORLD[version], *broadcast):
        assert datapath.run("from_lxc", udp(CLIENT[version], destination, dport=8472)).drop == PROHIBITED, destination
        assert datapath.run("from_lxc", udp(CLIENT[version], destination, dport=8473)).verdict != PROHIBITED
    for destination in (SERVER[version], REMOTE[version]):
        assert datapath.run("from_lxc", udp(CLIENT[version], destination, dport=8472)).verdict == REDIRECT
    assert datapath.run("from_lxc", tcp(CLIENT[version], node, dport=8472)).verdict == OK


def test_the_tunnel_port_is_the_configured_one(make_datapath) -> None:
    datapath = make_datapath(tunnel_port=4789)
    cluster(datapath, 4)
    assert datapath.run("from_lxc", udp(CLIENT[4], NODE[4], dport=4789)).drop == PROHIBITED
    assert datapath.run("from_lxc", udp(CLIENT[4], NODE[4], dport=8472)).verdict == OK


def test_without_tunnels_no_port_is_special(make_datapath) -> None:
    datapath = make_datapath(routing_mode=RoutingMode.NATIVE)
    cluster(datapath, 4)
    assert datapath.run("from_lxc", udp(CLIENT[4], NODE[4], dport=8472)).verdict == OK


# ------------------------------------------------------------------------------------------------ strange headers


def closed_but_for_80(datapath: Datapath, version: int) -> None:
    datapath.endpoint(CLIENT[version], 1000)
    datapath.endpoint(SERVER[version], 2000, ifindex=77, ingress_policy=INGRESS)
    for protocol in (6, 17):
        datapath.rule(INGRESS, 1000, 1, protocol=protocol, port=80)


def padded(version: int, layer: Packet, length: int, **fields: int) -> bytes:
    """The first `length` bytes of a transport layer are in the packet, the rest is padding of the frame."""
    source, destination = CLIENT[version], SERVER[version]
    protocol = 6 if layer.name == "TCP" else 17
    if version == 4:
        return bytes(ip(source, destination, proto=protocol, len=20 + length, **fields) / layer)
    return bytes(ip(source, destination, nh=protocol, plen=length) / layer)


@pytest.mark.parametrize("length", [0, 4, 8, 19])
def test_padding_is_no_header(datapath: Datapath, version: int, length: int) -> None:
    closed_but_for_80(datapath, version)
    frame = padded(version, TCP(sport=40000, dport=80, flags="A"), length)
    assert datapath.run("from_lxc", frame).drop == DropReason.CT_TRUNCATED_OR_INVALID_HEADER
    if length < 8:
        frame = padded(version, UDP(sport=40000, dport=80, len=8), length)
        assert datapath.run("from_lxc", frame).drop == DropReason.CT_TRUNCATED_OR_INVALID_HEADER
    assert datapath.connections() == []


def test_a_first_fragment_does_not_leave_the_flags_to_the_second(datapath: Datapath, version: int) -> None:
    closed_but_for_80(datapath, version)
    if version == 4:
        frame = padded(4, TCP(sport=40000, dport=80, flags="A"), 8, flags=1, id=7)
    else:
        header = IPv6(src=CLIENT[6], dst=SERVER[6], plen=16)
        frame = bytes(Ether() / header / IPv6ExtHdrFragment(nh=6, m=1, id=7) / TCP(sport=40000, dport=80, flags="A"))
    assert datapath.run("from_lxc", frame).drop == DropReason.CT_TRUNCATED_OR_INVALID_HEADER


def test_ipv4_addresses_in_ipv6_headers(datapath: Datapath) -> None:
    """They would name the rows of IPv4 endpoints."""
    for version in FAMILIES:
        datapath.endpoint(CLIENT[version], 1000)
    mapped = f"::ffff:{CLIENT[4]}"
    for source, destination in ((mapped, SERVER[6]), (mapped, f"::ffff:{WORLD[4]}"), (CLIENT[6], mapped)):
        assert datapath.run("from_lxc", udp(source, destination)).drop == DropReason.INVALID_PACKET_DROPPED


# -------------------------------------------------------------------------------------------------- from outside


def test_pods_of_other_nodes_come_by_the_tunnel(make_datapath, version: int) -> None:
    source, destination = REMOTE[version], CLIENT[version]
    for mode, expected in ((RoutingMode.TUNNEL, DropReason.INVALID_SOURCE_IP), (RoutingMode.NATIVE, 0)):
        datapath = make_datapath(routing_mode=mode)
        cluster(datapath, version)
        assert datapath.run("from_netdev", tcp(source, destination)).drop == expected
        assert datapath.run("from_netdev", tcp(WORLD[version], destination)).drop == 0


def test_nobody_outside_has_a_local_address(make_datapath, version: int) -> None:
    """Forwarded by the stack towards another node's pod, it would go there with the identity of the pod it imitates."""
    datapath = make_datapath(tunnel_ifindex=1)
    cluster(datapath, version)
    packet = tcp(CLIENT[version], REMOTE[version])
    assert datapath.run("from_host", packet, came_from=1).verdict == REDIRECT  # ifindex 1: where the pod's row says
    datapath.endpoint(CLIENT[version], 1000, ifindex=77)
    assert datapath.run("from_host", packet, came_from=1).drop == DropReason.INVALID_SOURCE_IP
    assert datapath.run("from_host", packet).verdict == REDIRECT  # of the node's own making
    datapath.endpoint(SERVER[version], 2000)
    packet = tcp(CLIENT[version], SERVER[version])
    assert datapath.run("to_lxc", packet, came_from=1).drop == DropReason.INVALID_SOURCE_IP
    datapath.endpoint(CLIENT[version], 1000, ifindex=1)
    assert datapath.run("to_lxc", packet, came_from=1).verdict == OK


def test_the_node_forwards_with_its_own_address(make_datapath, version: int) -> None:
    """As kube-proxy does with what comes for a NodePort."""
    datapath = make_datapath(tunnel_ifindex=1)
    cluster(datapath, version)
    node = "10.0.0.254" if version == 4 else "fd00::fe"
    assert datapath.run("from_host", tcp(node, REMOTE[version]), came_from=1).verdict == REDIRECT
    datapath.endpoint(SERVER[version], 2000)
    assert datapath.run("to_lxc", tcp(node, SERVER[version]), came_from=1).verdict == OK


@pytest.fixture
def node() -> Iterator[Node]:
    if os.geteuid():
        pytest.skip("needs root")
    underlay = Underlay()
    try:
        yield Node(underlay, 1)
    finally:
        underlay.close()


def send_frame(namespace: str, frame: Packet) -> None:
    with inside(namespace), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", 0))
        raw.send(bytes(frame))


@pytest.mark.parametrize("tag", [0, 5])
def test_tagged_frames_stay_in_the_pod(objects: None, node: Node, tag: int) -> None:
    """The tag would go out to the underlay with the packet."""
    pod = node.pod(1, 1000)
    reasons: list[int] = []
    for address, layer in ((node.pod4(1), IP), (node.pod6(1), IPv6)):
        target = WORLD[4] if layer is IP else WORLD[6]
        frame = Ether(dst="02:00:00:00:ff:01") / Dot1Q(vlan=tag) / layer(src=address, dst=target) / UDP(dport=9)
        node.datapath.events()
        send_frame(pod, frame)
        reasons += [int(e["reason"]) for e in node.datapath.events() if e["type"] == EventType.DROP]
    assert reasons == [DropReason.VLAN_FILTERED] * 2
