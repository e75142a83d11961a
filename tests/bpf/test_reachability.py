"""Real packets between pods, nodes and the world: both families, every way, with policy and without."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from bpf.nodes import WORLD4, WORLD6, Node, Underlay, execute, introduce

from cilium.datapath.generated.enums import DropReason, EventType, RoutingMode

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Cluster:
    """Two nodes: pods 1 and 2 on the first, pod 3 on the second."""

    def __init__(self, *, tunnel6: bool = False, **constants: int) -> None:
        self.underlay = Underlay()
        try:
            self.one, self.two = (Node(self.underlay, n, **constants) for n in (1, 2))
            mtu = 1500 - (70 if tunnel6 else 50)
            self.client = self.one.pod(1, 1000, mtu=mtu)
            self.neighbour = self.one.pod(2, 2000, mtu=mtu)
            self.remote = self.two.pod(3, 3000, mtu=mtu)
            introduce([self.one, self.two], {1: {1: 1000, 2: 2000}, 2: {3: 3000}}, tunnel6=tunnel6)
        except BaseException:
            self.underlay.close()
            raise

    def route_natively(self) -> None:
        for here, there in ((self.one, self.two), (self.two, self.one)):
            n = there.number
            execute(here.namespace, "ip", "route", "add", f"10.0.{n}.0/24", "via", there.address4)
            execute(here.namespace, "ip", "route", "add", f"fd00:0:0:{n}::/64", "via", there.address6)

    def reasons(self, node: Node) -> set[int]:
        return {int(event["reason"]) for event in node.datapath.events() if event["type"] == EventType.DROP}


def ping(namespace: str, address: str, *options: str) -> bool:
    return execute(namespace, "ping", "-n", "-c1", "-W1", *options, address, check=False).returncode == 0


def is_silent(namespace: str, address: str) -> bool:
    """For what a drop's event proves as well, so that it need not wait long."""
    return not ping(namespace, address, "-W0.5")


def reaches(namespace: str, address: str) -> bool:
    """The first packet may wait for a neighbour; so up to three."""
    return any(ping(namespace, address) for _ in range(3))


def everything(cluster: Cluster) -> dict[str, tuple[str, str]]:
    one, two = cluster.one, cluster.two
    return {
        "pod to pod of its node": (cluster.client, one.pod4(2)),
        "pod to pod of its node, v6": (cluster.client, one.pod6(2)),
        "pod to pod of the other node": (cluster.client, two.pod4(3)),
        "pod to pod of the other node, v6": (cluster.client, two.pod6(3)),
        "pod to its router": (cluster.client, one.router4),
        "pod to its router, v6": (cluster.client, one.router6),
        "pod to its node": (cluster.client, one.address4),
        "pod to its node, v6": (cluster.client, one.address6),
        "pod to the other node": (cluster.client, two.address4),
        "pod to the other node, v6": (cluster.client, two.address6),
        "pod to the world": (cluster.client, WORLD4),
        "pod to the world, v6": (cluster.client, WORLD6),
        "node to its pod": (one.namespace, one.pod4(1)),
        "node to its pod, v6": (one.namespace, one.pod6(1)),
        "node to pod of the other node": (one.namespace, two.pod4(3)),
        "node to pod of the other node, v6": (one.namespace, two.pod6(3)),
        "node to the world": (one.namespace, WORLD4),
        "node to the world, v6": (one.namespace, WORLD6),
    }


@pytest.fixture(scope="module", params=["vxlan over v4", "vxlan over v6", "native"])
def cluster(request: pytest.FixtureRequest, objects: None) -> Iterator[Cluster]:
    native = request.param == "native"
    mode = RoutingMode.NATIVE if native else RoutingMode.TUNNEL
    made = Cluster(tunnel6=request.param.endswith("v6"), routing_mode=mode)
    if native:
        made.route_natively()
    yield made
    made.underlay.close()


def test_everything_reaches_everything(cluster: Cluster) -> None:
    unreachable = [name for name, (source, target) in everything(cluster).items() if not reaches(source, target)]
    assert unreachable == []


def test_big_and_fragmented_packets_arrive(cluster: Cluster) -> None:
    for target in (cluster.one.pod4(2), cluster.one.pod6(2), cluster.two.pod4(3), cluster.two.pod6(3), WORLD4, WORLD6):
        assert any(ping(cluster.client, target, "-s", "4000") for _ in range(3)), target


def test_hops_are_counted_and_the_last_is_answered(cluster: Cluster) -> None:
    for target in (cluster.one.pod4(2), cluster.one.pod6(2)):
        done = execute(cluster.client, "ping", "-n", "-c1", "-W1", "-t1", target, check=False)
        assert "Time to live exceeded" in done.stdout or "Hop limit" in done.stdout, done.stdout


def test_policy_judges_where_the_pod_lives(cluster: Cluster) -> None:
    one, two = cluster.one, cluster.two
    try:
        two.describe(3, 3000, ingress_policy=7)
        list(two.datapath.events())
        assert is_silent(cluster.client, two.pod4(3))
        assert is_silent(cluster.client, two.pod6(3))
        assert cluster.reasons(two) == {DropReason.POLICY_DENIED}
        two.datapath.rule(7, 1000, 1)
        assert ping(cluster.client, two.pod4(3))
        assert ping(cluster.client, two.pod6(3))
        assert is_silent(cluster.neighbour, two.pod4(3))
        one.describe(1, 1000, egress_policy=5)
        list(one.datapath.events())
        assert is_silent(cluster.client, two.pod4(3))
        assert cluster.reasons(one) == {DropReason.POLICY_DENIED}
        one.datapath.rule(5, 3000, 1)
        assert ping(cluster.client, two.pod4(3))
        assert ping(cluster.client, two.pod6(3))
    finally:
        one.describe(1, 1000)
        two.describe(3, 3000)
        for node in (one, two):
            node.datapath.drop_rows("cilium_policy")


def test_a_node_is_host_at_home_and_remote_node_elsewhere(cluster: Cluster) -> None:
    two = cluster.two
    try:
        two.describe(3, 3000, ingress_policy=7)
        assert ping(two.namespace, two.pod4(3))
        assert is_silent(cluster.one.namespace, two.pod4(3))
        two.datapath.rule(7, 6, 1)
        assert ping(cluster.one.namespace, two.pod4(3))
        assert ping(cluster.one.namespace, two.pod6(3))
    finally:
        two.describe(3, 3000)
        two.datapath.drop_rows("cilium_policy")


def test_the_world_sees_the_node_and_not_the_pod(cluster: Cluster) -> None:
    for family, world, node in (("AF_INET", WORLD4, cluster.one.address4), ("AF_INET6", WORLD6, cluster.one.address6)):
        seen = conversation(cluster, family, world)
        assert seen == node


def test_an_address_that_nobody_has_is_dropped_with_a_reason(cluster: Cluster) -> None:
    list(cluster.one.datapath.events())
    assert is_silent(cluster.one.namespace, "10.0.1.99")
    assert cluster.reasons(cluster.one) == {DropReason.UNKNOWN_L3_TARGET_ADDRESS}


LISTEN = """
import socket
server = socket.create_server(("{address}", 0), family=socket.{family})
print(server.getsockname()[1], flush=True)
connection, peer = server.accept()
data = b""
while len(data) < 300000:
    part = connection.recv(65536)
    if not part: break
    data += part
connection.sendall(str(len(data)).encode())
print(peer[0], flush=True)
"""
ASK = """
import socket
connection = socket.create_connection(("{address}", {port}), timeout=5)
connection.sendall(bytes(300000))
connection.shutdown(socket.SHUT_WR)
assert connection.recv(100) == b"300000"
"""


def conversation(cluster: Cluster, family: str, world: str) -> str:
    """A TCP connection from a pod to the world; the client's address as the world sees it."""
    command = ["ip", "netns", "exec", cluster.underlay.namespace, sys.executable, "-u", "-c"]
    script = LISTEN.format(family=family, address=world)
    with subprocess.Popen([*command, script], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            port = server.stdout.readline().strip()
            execute(cluster.client, sys.executable, "-c", ASK.format(address=world, port=port))
            return server.stdout.readline().strip()
        finally:
            server.kill()
