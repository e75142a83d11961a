"""What our datapath is compared with: namespaces, veth pairs and routes of the kernel, nothing attached to them.

In: nothing. Out: routes between two client and server namespaces, on one node, through the kernel's own VXLAN, or from
outside through a node to a pod of another; with the namespaces of the nodes, for those who want rules in them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bench.traffic import Route

DIRECTORY = "/run/netns"
UNDERLAY_MTU = 1500
POD_MTU = UNDERLAY_MTU - 50
"""That of pods in tunnel mode: segments of the same size on both ways."""
VNI = 4711
PODS = {4: "10.99.0.0/16", 6: "fd00:99::/32"}
OUTSIDE = 254
"""Last part of the address of whoever is no node."""


@dataclass(frozen=True, slots=True)
class Routed:
    """A client, a server, and the namespaces that route between them, with their addresses by IP version."""

    route: Route
    nodes: tuple[str, ...]
    addresses: tuple[dict[int, str], ...] = ()


class Namespaces:
    """Named namespaces of this process; all removed at the end."""

    def __init__(self, kind: str) -> None:
        self._prefix = f"bench-{kind}-{os.getpid()}"
        self._made: list[str] = []

    def make(self, role: str) -> str:
        name = f"{self._prefix}-{role}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        self._made.append(name)
        self.ip(name, ["link set lo up"])
        return name

    def router(self, role: str) -> str:
        name = self.make(role)
        script = (
            "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; "
            "for each in all default; do echo 0 >/proc/sys/net/ipv4/conf/$each/send_redirects; done"
        )
        subprocess.run(["ip", "netns", "exec", name, "sh", "-c", script], check=True)
        return name

    def underlay(self) -> str:
        name = self.make("underlay")
        bridge = "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        self.ip(name, [bridge, "link set br0 up"])
        return name

    def plug(self, underlay: str, name: str, number: int) -> dict[int, str]:
        """eth0 of a namespace on the bridge; its addresses."""
        v4, v6 = f"10.98.0.{number}", f"fd00:98::{number}"
        self.ip(underlay, [f"link add port{number} type veth peer name eth0 netns {name}",
                           f"link set port{number} master br0 up"])  # fmt: skip
        self.ip(name, [
            f"link set eth0 mtu {UNDERLAY_MTU} up", f"addr add {v4}/24 dev eth0", f"addr add {v6}/64 dev eth0 nodad",
        ])  # fmt: skip
        return {4: v4, 6: v6}

    @staticmethod
    def ip(name: str, commands: Sequence[str]) -> None:
        subprocess.run(["ip", "-n", name, "-batch", "-"], input="\n".join(commands), text=True, check=True)

    def pod(self, node: str, number: int) -> tuple[str, dict[int, str]]:
        """A namespace behind a veth pair, addressed and routed as a pod is: host routes, a gateway."""
        name = self.make(f"pod{number}")
        device = f"pod{number}"
        v4, v6 = f"10.99.{number}.2", f"fd00:99:{number}::2"
        gateway4, gateway6 = f"10.99.{number}.1", f"fd00:99:{number}::1"
        self.ip(node, [
            f"link add {device} mtu {POD_MTU} type veth peer name eth0 mtu {POD_MTU} netns {name}",
            f"addr add {gateway4}/32 dev {device}", f"addr add {gateway6}/128 dev {device} nodad",
            f"link set {device} up",
            f"route add {v4}/32 dev {device}", f"route add {v6}/128 dev {device}",
        ])  # fmt: skip
        self.ip(name, [
            "link set eth0 up",
            f"addr add {v4}/32 dev eth0", f"addr add {v6}/128 dev eth0 nodad",
            f"route add {gateway4} dev eth0", f"route add default via {gateway4}",
            f"route add {gateway6} dev eth0", f"route add default via {gateway6}",
        ])  # fmt: skip
        return name, {4: v4, 6: v6}

    def remove(self) -> None:
        for name in self._made:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@contextmanager
def one_node(kind: str) -> Iterator[Routed]:
    """Two pods of one router."""
    spaces = Namespaces(kind)
    try:
        node = spaces.router("node")
        client, _ = spaces.pod(node, 1)
        server, addresses = spaces.pod(node, 2)
        yield Routed(Route(_file(client), _file(server), addresses), (node,))
    finally:
        spaces.remove()


@contextmanager
def same_node() -> Iterator[Route]:
    with one_node("same") as made:
        yield made.route


@contextmanager
def across_vxlan() -> Iterator[Route]:
    """Two routers on one bridge, a VXLAN with one peer between them, a pod behind each."""
    spaces = Namespaces("vxlan")
    try:
        underlay = spaces.underlay()
        pods = [_node(spaces, underlay, number) for number in (1, 2)]
        yield Route(_file(pods[0][0]), _file(pods[1][0]), pods[1][1])
    finally:
        spaces.remove()


def _node(spaces: Namespaces, underlay: str, number: int) -> tuple[str, dict[int, str]]:
    node, other = spaces.router(f"node{number}"), 3 - number
    spaces.plug(underlay, node, number)
    spaces.ip(node, [
        f"link add vx0 address 02:00:00:00:98:0{number} mtu {POD_MTU} type vxlan id {VNI} dstport 4789 "
        f"local 10.98.0.{number} remote 10.98.0.{other} nolearning noudpcsum",
        f"addr add 10.97.0.{number}/24 dev vx0", f"addr add fd00:97::{number}/64 dev vx0 nodad", "link set vx0 up",
        f"route add 10.99.{other}.0/24 via 10.97.0.{other}", f"route add fd00:99:{other}::/64 via fd00:97::{other}",
    ])  # fmt: skip
    return spaces.pod(node, number)


@contextmanager
def from_outside(kind: str) -> Iterator[Routed]:
    """A client beside two routers and a pod of the second one; packets go both ways through the first."""
    spaces = Namespaces(kind)
    try:
        underlay = spaces.underlay()
        client = spaces.make("outside")
        outside = spaces.plug(underlay, client, OUTSIDE)
        nodes = tuple(spaces.router(f"node{number}") for number in (1, 2))
        addresses = tuple(spaces.plug(underlay, name, number) for number, name in enumerate(nodes, 1))
        for number in (1, 2, OUTSIDE):
            batching(_file(underlay), f"port{number}")
        server, pod = spaces.pod(nodes[1], 2)
        for version, address in pod.items():
            length = 32 if version == 4 else 128
            spaces.ip(client, [f"route add {address} via {addresses[0][version]}"])
            spaces.ip(nodes[0], [f"route add {address} via {addresses[1][version]}"])
            spaces.ip(nodes[1], [f"route add {outside[version]}/{length} via {addresses[0][version]}"])
        yield Routed(Route(_file(client), _file(server), pod), nodes, addresses)
    finally:
        spaces.remove()


def batching(netns: str, device: str) -> None:
    """The device takes frames as that of a network card does, many at a time: XDP at the other end of its cable needs
    it, so whoever is compared with XDP has it too. `netns`: a file."""
    subprocess.run(["nsenter", f"--net={netns}", "ethtool", "-K", device, "gro", "on"], check=True)


def _file(name: str) -> str:
    return f"{DIRECTORY}/{name}"
