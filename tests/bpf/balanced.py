"""Two nodes with services: rows as the agent writes them, servers in pods and on nodes, clients in pods and outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from bpf.harness import Datapath, encoded
from bpf.nodes import WORLD4, WORLD6, Node, Underlay, execute, ifindex, inside, introduce

from cilium.datapath.addresses import mac_bytes
from cilium.datapath.generated.enums import EventType, NetdevFlags, RoutingMode, ServiceFlags, ServiceScope
from cilium.datapath.hooks import XdpMode
from cilium.datapath.libbpf import syscall
from cilium.datapath.xdp import ATTACH_XDP, FLAGS

ECHO = str(Path(__file__).with_name("echo.py"))
NUMBERS = {"tcp": 6, "udp": 17}
LOOPBACK = {4: "169.254.42.1", 6: "100::1"}
VIP = {4: "10.96.0.7", 6: "fd96::7"}
OUTSIDE = {4: WORLD4, 6: WORLD6}
ANY = {4: "0.0.0.0", 6: "::"}


@dataclass(frozen=True)
class Answer:
    """Who answered, and what it saw of the client; only `error` otherwise."""

    server: str = ""
    client: str = ""
    port: int = 0
    size: int = 0
    error: str = ""

    @classmethod
    def read(cls, line: str) -> Answer:
        fields = line.split()
        if len(fields) != 4:
            return cls(error=line.strip())
        return cls(fields[0], fields[1], int(fields[2]), int(fields[3]))


class Services:
    """The service maps of one node, filled by hand."""

    def __init__(self, datapath: Datapath) -> None:
        self._datapath = datapath
        self._slots = 0
        self._backends: dict[tuple[str, int, int], int] = {}

    def put(
        self,
        address: str,
        port: int,
        *backends: tuple[str, int],
        protocol: str = "tcp",
        scope: int = ServiceScope.CLUSTER,
        number: int = 1,
        **fields: int,
    ) -> None:
        """A row; the address ANY makes a node port."""
        start = self._slots
        for end in backends:
            self._datapath.put("cilium_lb_slots", self._slots, self.backend(*end, protocol=protocol))
            self._slots += 1
        fields["flags"] = fields.get("flags", 0) | (ServiceFlags.NODE_PORT if ip_address(address).is_unspecified else 0)
        key = self._key(address, port, protocol, scope)
        self._datapath.put("cilium_lb_services", key, {"id": number, "slots": start, "count": len(backends), **fields})

    def backend(self, address: str, port: int, *, protocol: str = "tcp", gone: bool = False) -> int:
        """Writes a backend's record, or zeroes it; returns its id."""
        key = (address, port, NUMBERS[protocol])
        number = self._backends.setdefault(key, len(self._backends) + 1)
        record = {} if gone else {"address": encoded(address), "port": port, "protocol": key[2]}
        self._datapath.put("cilium_lb_backends", number, record)
        return number

    def _key(self, address: str, port: int, protocol: str, scope: int) -> dict[str, Any]:
        # The unspecified address of IPv4 is a v4-mapped one like all others.
        return {"address": encoded(address), "port": port, "protocol": NUMBERS[protocol], "scope": scope}


class Cluster:
    """Pods 1 (client) and 2 on the first node, 3 on the second; every pod but the first serves on 8080."""

    def __init__(self, mode: RoutingMode = RoutingMode.TUNNEL, *, node: type[Node] = Node, **constants: Any) -> None:
        self.underlay = Underlay()
        self._servers: list[subprocess.Popen[str]] = []
        try:
            loops = {f"loopback{version}": ip_address(address) for version, address in LOOPBACK.items()}
            settings = {"services": 1, "routing_mode": mode, **loops, **constants}
            self.one, self.two = (node(self.underlay, n, **settings) for n in (1, 2))
            self.client = self.one.pod(1, 1000)
            self.near, self.far = self.one.pod(2, 2000), self.two.pod(3, 3000)
            introduce([self.one, self.two], {1: {1: 1000, 2: 2000}, 2: {3: 3000}})
            self.services = {node.number: Services(node.datapath) for node in (self.one, self.two)}
            self.outside = self.underlay.namespace
            for address in (VIP[4], "198.51.100.7"):
                execute(self.outside, "ip", "route", "add", address, "via", self.one.address4)
            for address in (VIP[6], "2001:db8:7::7"):
                execute(self.outside, "ip", "route", "add", address, "via", self.one.address6)
            self.serve(self.near, "near")
            self.serve(self.far, "far")
        except BaseException:
            self.close()
            raise

    def route_natively(self) -> None:
        for here, there in ((self.one, self.two), (self.two, self.one)):
            n = there.number
            execute(here.namespace, "ip", "route", "add", f"10.0.{n}.0/24", "via", there.address4)
            execute(here.namespace, "ip", "route", "add", f"fd00:0:0:{n}::/64", "via", there.address6)

    def accelerate(self, node: Node, *, native: bool = True) -> None:
        """XDP on a node's eth0. Its cable becomes one between network cards: what arrives has its checksum, and frames
        that XDP sends are taken."""
        for feature in (("tx", "off"), ("gro", "on")):
            execute(self.outside, "ethtool", "-K", f"v{node.number}", *feature)
        index, program = (
            ifindex(node.namespace, "eth0"),
            node.datapath.program("from_wire" if native else "from_wire_generic"),
        )
        (link,) = json.loads(execute(node.namespace, "ip", "-j", "link", "show", "eth0").stdout)
        row = {
            "masquerade4": encoded(node.address4),
            "masquerade6": encoded(node.address6),
            "mac": list(mac_bytes(link["address"])),
            "flags": NetdevFlags.TAKES_FRAMES | NetdevFlags.TX_WAITS,
        }
        node.datapath.put("cilium_netdev", index, row)
        with inside(node.namespace):
            node.hold(
                syscall.link_create(program, index, ATTACH_XDP, FLAGS[XdpMode.NATIVE if native else XdpMode.GENERIC])
            )

    def serve(self, namespace: str, name: str, port: int = 8080, at: str = "") -> None:
        """`at`: a server of datagrams on a node with several addresses must say which it answers from."""
        command = ["ip", "netns", "exec", namespace, sys.executable, "-I", "-S", ECHO, "serve", name, str(port)]
        command += [at] if at else []
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._servers.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"

    def ask(self, namespace: str, protocol: str, address: str, port: int, **more: Any) -> Answer:
        """Once; `more`: of `ask_often`."""
        return self.ask_often(namespace, protocol, address, port, 1, **more)[0]

    def is_silent(self, namespace: str, protocol: str, address: str, port: int) -> bool:
        """Nobody answers or says why: for what a drop's event proves as well, so that it need not wait long."""
        return self.ask(namespace, protocol, address, port, patience=0.5).error == "TIMEOUT"

    def ask_often(
        self, namespace: str, protocol: str, address: str, port: int, count: int, *,
        size: int = 10, source: int = 0, patience: float | None = None,
    ) -> list[Answer]:  # fmt: skip
        fields = [protocol, address, str(port), str(size), str(source), str(count)]
        environment = os.environ | ({"ECHO_PATIENCE": str(patience)} if patience else {})
        done = execute(namespace, sys.executable, "-I", "-S", ECHO, "ask", *fields, env=environment)
        return [Answer.read(line) for line in done.stdout.splitlines()]

    def drops(self, node: Node) -> list[int]:
        return [int(event["reason"]) for event in node.datapath.events() if event["type"] == EventType.DROP]

    def close(self) -> None:
        for server in self._servers:
            server.kill()
            server.wait()
        self.underlay.close()


def end(node: Node, number: int, version: int, port: int = 8080) -> tuple[str, int]:
    """A pod's server."""
    return (node.pod4(number) if version == 4 else node.pod6(number)), port


def address(node: Node, version: int) -> str:
    return node.address4 if version == 4 else node.address6


def router(node: Node, version: int) -> str:
    return node.router4 if version == 4 else node.router6
