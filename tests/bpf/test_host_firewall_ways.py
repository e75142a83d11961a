"""Ways around the host firewall, with real frames and a real stack: whatever it takes for the node's is judged."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from bpf.balanced import ECHO
from bpf.nodes import Node, Underlay, batch, device_mac, execute, inside
from bpf.packets import FAMILIES, WORLD, udp
from scapy.layers.inet import IP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

from cilium.datapath.generated.enums import DropReason, EndpointFlags, EventType

EGRESS, INGRESS = 5, 7
PROHIBITED = {4: "EHOSTUNREACH", 6: "EACCES"}
PORT = 5353
ALL_ON_LINK = {4: "172.18.0.255", 6: "fd12::"}
"""The broadcast address, and the anycast address of the link's routers (RFC 4291 2.6.1)."""


@dataclass(frozen=True)
class Guarded:
    node: Node
    pod: str
    servers: dict[int, socket.socket]

    def close(self, ingress: int, egress: int = 0) -> None:
        policies = {"ingress_policy": ingress, "egress_policy": egress}
        for address in (self.node.address4, self.node.address6, self.node.router4, self.node.router6):
            self.node.datapath.endpoint(address, 1, id=65535, ifindex=0, flags=EndpointFlags.HOST, **policies)
        list(self.node.datapath.events())

    def drops(self) -> list[int]:
        return [int(event["reason"]) for event in self.node.datapath.events() if event["type"] == EventType.DROP]

    def heard(self, version: int) -> bytes:
        """What the server on the node has got; b"": nothing."""
        try:
            return self.servers[version].recv(100)
        except BlockingIOError:
            return b""

    def from_outside(self, packet: Packet) -> None:
        """A frame for the node alone, whatever is in it."""
        packet[Ether].dst = ":".join(f"{byte:02x}" for byte in device_mac(self.node.namespace, "eth0"))
        send(self.node.underlay.namespace, "br0", packet)

    def from_pod(self, packet: Packet) -> None:
        packet[Ether].src = "02:00:00:01:00:01"
        send(self.pod, "eth0", packet)


def send(namespace: str, device: str, packet: Packet) -> None:
    with inside(namespace), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((device, 0))
        raw.send(bytes(packet))


def until(ready: Callable[[], object]) -> bool:
    """Whether it becomes true within seconds."""
    end = time.monotonic() + 5
    while not ready():
        if time.monotonic() > end:
            return False
    return True


@pytest.fixture(scope="module", params=[0, 1], ids=["kube-proxy", "services"])
def guarded(request: pytest.FixtureRequest, objects: None) -> Iterator[Guarded]:
    underlay = Underlay()
    batch(underlay.namespace, "addr add 169.254.169.254/32 dev lo")
    servers = {}
    try:
        node = Node(underlay, 1, host_firewall=1, deny_response=1, services=request.param)
        pod = node.pod(1, 1000)
        batch(
            node.namespace,
            "addr add 172.18.99.1/32 dev lo",
            "addr add fd99::1/128 dev lo nodad",
        )
        with inside(node.namespace):
            for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
                servers[version] = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                if version == 6:
                    servers[version].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                servers[version].bind(("", PORT))
        yield Guarded(node, pod, servers)
    finally:
        for server in servers.values():
            server.close()
        underlay.close()


def ask(source: str, destination: str) -> Packet:
    return udp(source, destination, dport=PORT)


def outside(version: int, destination: str) -> tuple[Callable[[Guarded, Packet], None], Packet]:
    return Guarded.from_outside, ask(WORLD[version], destination)


def inside_pod(version: int, destination: str) -> tuple[Callable[[Guarded, Packet], None], Packet]:
    return Guarded.from_pod, ask({4: "10.0.1.1", 6: "fd00:0:0:1::1"}[version], destination)


WAYS = {
    f"{asker.__name__}-{name}-{version}": (asker, version, destination)
    for asker in (outside, inside_pod)
    for version, name, destination in (
        (4, "link", ALL_ON_LINK[4]),
        (4, "everybody", "255.255.255.255"),
        (6, "link", ALL_ON_LINK[6]),
        (4, "unnamed", "172.18.99.1"),
        (6, "unnamed", "fd99::1"),
    )
    if (asker, name) != (inside_pod, "everybody")
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_the_stack_takes_for_the_nodes_is_judged(guarded: Guarded, way: str) -> None:
    asker, version, destination = WAYS[way]
    send_it, packet = asker(version, destination)
    guarded.close(0)
    send_it(guarded, packet)
    assert until(lambda: guarded.heard(version)), "the way is one"
    guarded.close(INGRESS)
    send_it(guarded, packet)
    assert until(lambda: guarded.drops() == [DropReason.POLICY_DENIED])
    assert not guarded.heard(version)


def test_what_is_routed_on_is_not_the_nodes(guarded: Guarded) -> None:
    """Also to a link-local address of IPv4 (metadata of clouds)."""
    guarded.close(INGRESS)
    with inside(guarded.node.underlay.namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as metadata:
        metadata.bind(("169.254.169.254", PORT))
        metadata.settimeout(5)
        guarded.from_pod(ask("10.0.1.1", "169.254.169.254"))
        assert metadata.recv(100) == b"ask"
        guarded.from_outside(ask(WORLD[4], "169.254.169.254"))
    guarded.from_outside(ask(WORLD[4], "203.0.113.7"))
    assert until(lambda: guarded.drops() == [DropReason.POLICY_DENIED])


def test_two_empty_tags_hide_nothing(guarded: Guarded) -> None:
    plain = ask(WORLD[4], guarded.node.address4)
    hidden = Ether(src=plain.src) / Dot1Q(vlan=0) / Dot1Q(vlan=0) / plain[IP]
    guarded.close(0)
    guarded.from_outside(hidden)
    assert until(lambda: guarded.heard(4)), "the way is one"
    guarded.close(INGRESS)
    guarded.from_outside(hidden)
    assert until(lambda: guarded.drops() == [DropReason.VLAN_FILTERED])
    assert not guarded.heard(4)


@pytest.mark.parametrize("checksums", ["on", "off"])
@pytest.mark.parametrize("version", FAMILIES)
def test_denials_are_answered(guarded: Guarded, version: int, checksums: str) -> None:
    """`checksums`: whether the node's card trusts the kernel with them, as virtual ones do, or has them computed."""
    execute(guarded.node.namespace, "ethtool", "-K", "eth0", "tx", checksums)
    outside, node = guarded.node.underlay.namespace, guarded.node
    node_address = node.address4 if version == 4 else node.address6
    guarded.close(INGRESS, EGRESS)
    assert refusals(outside, node_address) == ["ECONNREFUSED", PROHIBITED[version]]
    assert refusals(node.namespace, WORLD[version]) == ["ECONNREFUSED", PROHIBITED[version]]


def refusals(namespace: str, address: str) -> list[str]:
    return [
        execute(namespace, sys.executable, "-I", "-S", ECHO, "ask", protocol, address, "4242").stdout.strip()
        for protocol in ("tcp", "udp")
    ]
