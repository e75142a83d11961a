"""What our datapath is compared with: namespaces, veth pairs and routes of the kernel, nothing attached to them.

In: nothing. Out: routes between two client and server namespaces, on one node or through the kernel's own VXLAN.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.traffic import Route

DIRECTORY = "/run/netns"
UNDERLAY_MTU = 1500
POD_MTU = UNDERLAY_MTU - 50
"""That of pods in tunnel mode: segments of the same size on both ways."""
VNI = 4711


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
        script = "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"
        subprocess.run(["ip", "netns", "exec", name, "sh", "-c", script], check=True)
        return name

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
def same_node() -> Iterator[Route]:
    """Two pods of one router."""
    spaces = Namespaces("same")
    try:
        node = spaces.router("node")
        client, _ = spaces.pod(node, 1)
        server, addresses = spaces.pod(node, 2)
        yield Route(f"{DIRECTORY}/{client}", f"{DIRECTORY}/{server}", addresses)
    finally:
        spaces.remove()


@contextmanager
def across_vxlan() -> Iterator[Route]:
    """Two routers on one bridge, a VXLAN with one peer between them, a pod behind each."""
    spaces = Namespaces("vxlan")
    try:
        underlay = spaces.make("underlay")
        bridge = "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        spaces.ip(underlay, [bridge, "link set br0 up"])
        pods = [_node(spaces, underlay, number) for number in (1, 2)]
        yield Route(f"{DIRECTORY}/{pods[0][0]}", f"{DIRECTORY}/{pods[1][0]}", pods[1][1])
    finally:
        spaces.remove()


def _node(spaces: Namespaces, underlay: str, number: int) -> tuple[str, dict[int, str]]:
    node, other = spaces.router(f"node{number}"), 3 - number
    spaces.ip(underlay, [f"link add node{number} type veth peer name eth0 netns {node}",
                         f"link set node{number} master br0 up"])  # fmt: skip
    spaces.ip(node, [
        f"link set eth0 mtu {UNDERLAY_MTU} up", f"addr add 10.98.0.{number}/24 dev eth0",
        f"link add vx0 address 02:00:00:00:98:0{number} mtu {POD_MTU} type vxlan id {VNI} dstport 4789 "
        f"local 10.98.0.{number} remote 10.98.0.{other} nolearning noudpcsum",
        f"addr add 10.97.0.{number}/24 dev vx0", f"addr add fd00:97::{number}/64 dev vx0 nodad", "link set vx0 up",
        f"route add 10.99.{other}.0/24 via 10.97.0.{other}", f"route add fd00:99:{other}::/64 via fd00:97::{other}",
    ])  # fmt: skip
    return spaces.pod(node, number)
