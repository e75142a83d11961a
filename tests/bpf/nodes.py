"""Nodes, pods and a world in namespaces, wired as the agent wires them, with the datapath attached.

underlay (bridge, router, 192.0.2.9 and 2001:db8::9 as the world) -- eth0 of node 1, node 2
node n: pods 10.0.n.p and fd00:0:0:n::p, cilium_host 10.0.n.254 and fd00:0:0:n::fe, cilium_vxlan
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_address
from typing import Any

from bpf.harness import NODE_MAC, Datapath, encoded

from cilium.datapath.addresses import mac_bytes
from cilium.datapath.libbpf import syscall

INGRESS, EGRESS = 46, 47  # BPF_TCX_INGRESS, BPF_TCX_EGRESS
CLONE_NEWNET = 0x40000000
WORLD4, WORLD6 = "192.0.2.9", "2001:db8::9"
LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread in a network namespace."""
    with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{namespace}") as there:
        if LIBC.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
        try:
            yield
        finally:
            LIBC.setns(before.fileno(), CLONE_NEWNET)


def batch(namespace: str, *lines: str) -> None:
    command = ["ip", "-n", namespace, "-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def execute(namespace: str, *command: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ip", "netns", "exec", namespace, *command], check=check, capture_output=True, text=True, timeout=30, **options
    )


def ifindex(namespace: str, device: str) -> int:
    with inside(namespace):
        return socket.if_nametoindex(device)


def device_mac(namespace: str, device: str) -> bytes:
    (link,) = json.loads(execute(namespace, "ip", "-j", "link", "show", device).stdout)
    return mac_bytes(link["address"])


class Underlay:
    """The network between nodes, and the world behind it."""

    def __init__(self) -> None:
        self.prefix = f"b{os.getpid()}{uuid.uuid4().hex[:4]}"
        self.namespace = f"{self.prefix}w"
        self._stack = ExitStack()
        self.add_namespace(self.namespace)
        batch(
            self.namespace,
            "link set lo up",
            f"addr add {WORLD4}/32 dev lo",
            f"addr add {WORLD6}/128 dev lo",
            "link add br0 type bridge",
            "link set br0 up",
            "addr add 172.18.0.1/24 dev br0",
            "addr add fd12::1/64 dev br0 nodad",
        )

    def add_namespace(self, name: str) -> None:
        subprocess.run(["ip", "netns", "add", name], check=True)
        self._stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
        execute(name, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        execute(name, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
        execute(name, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0")

    def on_close(self, function: Any) -> None:
        self._stack.callback(function)

    def close(self) -> None:
        self._stack.close()


class Node:
    """One node: its namespace, its datapath, its pods."""

    overlay = "cilium_vxlan"

    def __init__(self, underlay: Underlay, number: int, *, attach: bool = True, **constants: Any) -> None:
        self.underlay, self.number = underlay, number
        self.namespace = f"{underlay.prefix}n{number}"
        self.address4, self.address6 = f"172.18.0.{number + 10}", f"fd12::{number + 10:x}"
        self.router4, self.router6 = f"10.0.{number}.254", f"fd00:0:0:{number}::fe"
        self.pods: dict[str, str] = {}
        self._links: list[int] = []
        underlay.add_namespace(self.namespace)
        self._wire()
        config = {
            "host_ifindex": ifindex(self.namespace, "cilium_host"),
            "host_mac": device_mac(self.namespace, "cilium_host"),
            "tunnel_ifindex": ifindex(self.namespace, self.overlay),
            "router4": ip_address(self.router4),
            "router6": ip_address(self.router6),
            **constants,
        }
        self.datapath = Datapath(**config)
        underlay.on_close(self._close)
        for address in (self.address4, self.address6, self.router4, self.router6):
            self.datapath.node_address(address)
        self.datapath.put(
            "cilium_netdev",
            ifindex(self.namespace, "eth0"),
            {"masquerade4": encoded(self.address4), "masquerade6": encoded(self.address6)},
        )
        self.attached = attach
        if attach:
            self.attach("cilium_host", EGRESS, "from_host")
            self.attach(self.overlay, INGRESS, "from_overlay")
            self.attach("eth0", INGRESS, "from_netdev")
            self.attach("eth0", EGRESS, "to_netdev")

    def _close(self) -> None:
        for link in self._links:
            with suppress(OSError):
                os.close(link)
        self.datapath.close()

    def _wire(self) -> None:
        ns, world, n = self.namespace, self.underlay.namespace, self.number
        batch(world, f"link add v{n} type veth peer name eth0 netns {ns}", f"link set v{n} master br0 up")
        batch(
            ns,
            "link set lo up",
            "link set eth0 up",
            f"addr add {self.address4}/24 dev eth0",
            f"addr add {self.address6}/64 dev eth0 nodad",
            "route add default via 172.18.0.1",
            "route add default via fd12::1",
            "link add cilium_host type veth peer name cilium_net",
            "link set cilium_net up arp off",
            "link set cilium_host up arp off",
            f"addr add {self.router4}/32 dev cilium_host",
            f"addr add {self.router6}/128 dev cilium_host nodad",
            f"route add 10.0.0.0/16 dev cilium_host src {self.router4}",
            f"route add fd00::/48 dev cilium_host src {self.router6}",
        )
        self.make_overlay()

    def make_overlay(self) -> None:
        """The tunnel's device; nodes of another protocol make another one."""
        batch(
            self.namespace,
            f"link add {self.overlay} type vxlan external dstport 8472",
            f"link set {self.overlay} up",
        )

    def attach(self, device: str, where: int, program: str) -> None:
        fd = self.datapath.program(program)
        with inside(self.namespace):
            self.hold(syscall.link_create(fd, socket.if_nametoindex(device), where))

    def hold(self, link: int) -> None:
        """Keeps a link, by its descriptor, as long as the node is there."""
        self._links.append(link)

    def pod(self, number: int, identity: int, *, mtu: int = 1450, **fields: Any) -> str:
        """Adds a pod; returns its namespace."""
        pod, host = f"{self.namespace}p{number}", f"lxc{number}"
        four, six = self.pod4(number), self.pod6(number)
        mac = f"02:00:00:{self.number:02x}:00:{number:02x}"
        self.underlay.add_namespace(pod)
        batch(
            self.namespace,
            f"link add {host} type veth peer name eth0 address {mac} mtu {mtu} netns {pod}",
            f"link set {host} address {NODE_MAC} mtu {mtu} up",
        )
        batch(
            pod,
            "link set lo up",
            "link set eth0 up",
            f"addr add {four}/32 dev eth0",
            f"addr add {six}/128 dev eth0 nodad",
            f"route add {self.router4} dev eth0",
            f"route add default via {self.router4}",
            f"route add {self.router6} dev eth0",
            f"route add default via {self.router6}",
        )
        self.pods[pod] = host
        self.describe(number, identity, **fields)
        if self.attached:
            self.attach(host, INGRESS, "from_lxc")
            self.attach(host, EGRESS, "to_lxc")
        return pod

    def describe(self, number: int, identity: int, **fields: Any) -> None:
        """Writes a pod's rows (again)."""
        index, mac = ifindex(self.namespace, f"lxc{number}"), f"02:00:00:{self.number:02x}:00:{number:02x}"
        for address in (self.pod4(number), self.pod6(number)):
            self.datapath.endpoint(address, identity, ifindex=index, mac=mac, id=number, **fields)

    def pod4(self, number: int) -> str:
        return f"10.0.{self.number}.{number}"

    def pod6(self, number: int) -> str:
        return f"fd00:0:0:{self.number}::{number:x}"


def introduce(nodes: Sequence[Node], pods: dict[int, dict[int, int]], *, tunnel6: bool = False) -> None:
    """Fills every node's ipcache with the others: pods[node][pod] = identity."""
    for here in nodes:
        for there in nodes:
            if here is there:
                continue
            tunnel = there.address6 if tunnel6 else there.address4
            for number, identity in pods[there.number].items():
                here.datapath.ipcache(f"{there.pod4(number)}/32", identity, tunnel=tunnel)
                here.datapath.ipcache(f"{there.pod6(number)}/128", identity, tunnel=tunnel)
            for address in (there.router4, there.router6):
                here.datapath.ipcache(address, 6, tunnel=tunnel)
            for address in (there.address4, there.address6):
                here.datapath.ipcache(address, 6)
