"""Pods across nodes through Geneve and VXLAN: our devices, our programs, real packets. Runs in the guest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from bpf.nodes import Underlay, execute, introduce
from guest.inside.overlays import MAKERS, node_of

from cilium.datapath.generated.enums import DropReason, EventType

CLIENT, REMOTE, STRANGER = 1000, 3000, 4000

SERVE = """
import socket, sys
listener = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    connection.sendall(connection.recv(100))
    connection.close()
"""
ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], 8080), timeout=5) as connection:
    connection.sendall(b"through the tunnel")
    print(connection.recv(100).decode())
"""


class Nodes:
    """Two nodes: client and stranger on the first, a server on the second that the client alone may reach."""

    def __init__(self, kind: str, *, tunnel6: bool) -> None:
        self.kind, self.underlay = kind, Underlay()
        try:
            self.overlay = f"cilium_{kind}"
            made = node_of(kind)
            self.one, self.two = (made(self.underlay, n, tunnel_port=MAKERS[kind][1]) for n in (1, 2))
            self.client = self.one.pod(1, CLIENT, mtu=1430)
            self.stranger = self.one.pod(2, STRANGER, mtu=1430)
            self.remote = self.two.pod(3, REMOTE, mtu=1430, ingress_policy=7)
            self.two.datapath.rule(7, CLIENT, 1)
            introduce([self.one, self.two], {1: {1: CLIENT, 2: STRANGER}, 2: {3: REMOTE}}, tunnel6=tunnel6)
        except BaseException:
            self.underlay.close()
            raise

    def received(self) -> int:
        """Packets that came out of the second node's tunnel."""
        found = json.loads(execute(self.two.namespace, "ip", "-j", "-s", "-d", "link", "show", self.overlay).stdout)
        assert found[0]["linkinfo"]["info_kind"] == self.kind
        return int(found[0]["stats64"]["rx"]["packets"])


@pytest.fixture(scope="module", params=[(kind, six) for kind in MAKERS for six in (False, True)],
                ids=lambda param: f"{param[0]}-over-IPv{6 if param[1] else 4}")  # fmt: skip
def nodes(request: pytest.FixtureRequest) -> Iterator[Nodes]:
    kind, tunnel6 = request.param
    made = Nodes(kind, tunnel6=tunnel6)
    yield made
    made.underlay.close()


@pytest.mark.parametrize("version", [4, 6])
def test_ping_across(nodes: Nodes, version: int) -> None:
    address = nodes.two.pod4(3) if version == 4 else nodes.two.pod6(3)
    before = nodes.received()
    done = execute(nodes.client, "ping", "-n", "-c2", "-W5", address, check=False)
    assert done.returncode == 0, done.stdout
    assert nodes.received() > before, "it came through the tunnel"


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_larger_than_a_packet(nodes: Nodes, version: int) -> None:
    address = nodes.two.pod4(3) if version == 4 else nodes.two.pod6(3)
    done = execute(nodes.client, "ping", "-n", "-c1", "-W5", "-s", "4000", address, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("version", [4, 6])
def test_the_identity_travels_in_the_tunnel(nodes: Nodes, version: int) -> None:
    address = nodes.two.pod4(3) if version == 4 else nodes.two.pod6(3)
    list(nodes.two.datapath.events())
    done = execute(nodes.stranger, "ping", "-n", "-c1", "-W2", address, check=False)
    assert done.returncode != 0
    drops = [event for event in nodes.two.datapath.events() if event["type"] == EventType.DROP]
    assert {int(event["reason"]) for event in drops} == {DropReason.POLICY_DENIED}
    assert {int(event["tunnel_vni"]) for event in drops} == {STRANGER}


def test_tcp_across(nodes: Nodes) -> None:
    argv = ["ip", "netns", "exec", nodes.remote, sys.executable, "-ISE", "-c", SERVE]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "listening\n"
            for address in (nodes.two.pod4(3), nodes.two.pod6(3)):
                answer = execute(nodes.client, sys.executable, "-ISE", "-c", ASK, address)
                assert answer.stdout == "through the tunnel\n"
        finally:
            server.kill()
