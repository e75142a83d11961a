"""A node between two wires, for XDP under BPF_PROG_TEST_RUN: routes and neighbours are the kernel's, in a namespace.

In: services and packets. Out: what XDP, and tc behind it, make of them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from bpf.harness import XDP_PASS, Datapath, Outcome, encoded
from bpf.nodes import Underlay, batch, inside
from bpf.packets import FAMILIES, WORLD
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from cilium.datapath.addresses import mac_bytes
from cilium.datapath.generated.enums import RoutingMode, ServiceScope

NODE = {4: "172.18.0.2", 6: "fd12::2"}
ROUTER_ON_NODE = {4: "10.0.0.254", 6: "fd00::fe"}
BACKEND = {4: "10.0.1.5", 6: "fd01::5"}
BESIDE = {4: "172.19.0.9", 6: "fd13::9"}
PEER = {4: "172.18.0.3", 6: "fd12::3"}
VIP = {4: "198.51.100.7", 6: "2001:db8:7::7"}
MAC, GATEWAY_MAC, BESIDE_MAC, PEER_MAC = (
    "02:00:00:00:ff:01",
    "02:00:00:00:00:01",
    "02:00:00:00:00:09",
    "02:00:00:00:00:03",
)
PORT, TARGET = 80, 8080


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


class Node:
    """The datapath of the crossing. Neighbours have been seen to, unless a test says otherwise."""

    def __init__(self, crossing: Crossing, make: Callable[..., Datapath], **constants: Any) -> None:
        routers = {f"router{version}": ip_address(address) for version, address in ROUTER_ON_NODE.items()}
        self.crossing = crossing
        self.datapath = make(services=1, **{"routing_mode": RoutingMode.NATIVE, **routers, **constants})
        for version in FAMILIES:
            self.datapath.node_address(NODE[version])
            self.datapath.node_address(ROUTER_ON_NODE[version])
        self.device(crossing.eth0)
        self._slots = 0

    def device(self, ifindex: int, **fields: Any) -> None:
        row = {"masquerade4": encoded(NODE[4]), "masquerade6": encoded(NODE[6]), "mac": list(mac_bytes(MAC)), **fields}
        self.datapath.put("cilium_netdev", ifindex, row)

    def service(
        self, version: int, *backends: str, protocol: int = 6, target: int = TARGET, number: int = 1, **fields: int
    ) -> None:
        self._slots += 10
        for place, backend in enumerate(backends, self._slots):
            record = {"address": encoded(backend), "port": TARGET, "protocol": protocol}
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


def asks(make: Callable[..., Packet], version: int, sport: int = 62000, dport: int = PORT, **fields: Any) -> Packet:
    return make(WORLD[version], VIP[version], sport, dport, **fields)


def network(packet: Packet) -> Packet:
    return packet[IPv6] if IPv6 in packet else packet[IP]


def left_alone(outcome: Outcome, packet: Packet) -> bool:
    return outcome.verdict == XDP_PASS and outcome.data == bytes(packet)
