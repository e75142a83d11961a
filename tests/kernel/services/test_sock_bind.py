"""Ports of the node that services have: no process of the node takes them; and what a closed socket leaves behind."""

from __future__ import annotations

import errno

import pytest
from kernel.services.conftest import ADDRESSES, Node, Place, frontend

from cilium.datapath.generated import ServiceFlags
from cilium.tables.services import Scope

pytestmark = pytest.mark.kernel
ANY = {4: "0.0.0.0", 6: "::"}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
VIP = {4: "10.96.0.1", 6: "fd96::1"}
HOST = 1
TAKEN = {"errno": errno.EADDRINUSE}
both = pytest.mark.parametrize("version", [4, 6])
kinds = pytest.mark.parametrize("kind", ["tcp", "udp"])


def bind(place: Place, version: int, kind: str, address: str, port: int) -> object:
    one = place.open(version, kind)
    answer = place.do("bind", socket=one, to=[address, port])
    place.do("close", socket=one)
    return answer


@both
@kinds
def test_a_node_port_is_taken(node: Node, pod: Place, version: int, kind: str) -> None:
    server, this_node, unknown = ADDRESSES[version]
    other = "udp" if kind == "tcp" else "tcp"
    node.put(frontend(ANY[version], server, port=30080, protocol=kind.upper()))
    node.name_node(this_node, HOST)
    for address in (ANY[version], LOOPBACK[version], this_node):
        assert bind(node, version, kind, address, 30080) == TAKEN
        assert bind(node, version, other, address, 30080) == {"name": [address, 30080]}, "another protocol's port"
        assert bind(node, version, kind, address, 30081) == {"name": [address, 30081]}
        assert bind(pod, version, kind, address, 30080) == {"name": [address, 30080]}, "a pod has ports of its own"
    assert bind(node, version, kind, unknown, 30080) == {"name": [unknown, 30080]}, "no node port answers there"
    node.services.delete([frontend(ANY[version], port=30080, protocol=kind.upper())])
    assert bind(node, version, kind, ANY[version], 30080) == {"name": [ANY[version], 30080]}


@kinds
def test_a_socket_of_ipv6_that_takes_a_port_of_ipv4(node: Node, kind: str) -> None:
    node.put(frontend("0.0.0.0", ADDRESSES[4][0], port=30080, protocol=kind.upper()))
    assert bind(node, 6, kind, "::", 30080) == TAKEN, "it would be a socket of both families"
    assert bind(node, 6, kind, "::ffff:0.0.0.0", 30080) == TAKEN
    assert bind(node, 6, kind, "::ffff:127.0.0.1", 30080) == TAKEN
    assert bind(node, 6, kind, "::1", 30080) == {"name": ["::1", 30080]}


@both
@kinds
def test_a_host_port_is_taken(node: Node, version: int, kind: str) -> None:
    server, this_node, _ = ADDRESSES[version]
    node.name_node(this_node, HOST)
    row = frontend(ANY[version], server, port=8081, protocol=kind.upper())
    node.put(row)
    node.mark(row, flags=ServiceFlags.HOST_PORT)
    for address in (ANY[version], LOOPBACK[version], this_node):
        assert bind(node, version, kind, address, 8081) == TAKEN


@both
@kinds
def test_an_address_that_is_served_outside_is_taken(node: Node, version: int, kind: str) -> None:
    external, server, inside = ADDRESSES[version]
    rows = [frontend(ip, server, protocol=kind.upper()) for ip in (external, inside)]
    node.put(*rows, frontend(external, server, protocol=kind.upper(), scope=Scope.EXTERNAL))
    assert bind(node, version, kind, external, 80) == TAKEN
    assert bind(node, version, kind, inside, 80) == {"name": [inside, 80]}, "a cluster IP is nobody's port"
    assert bind(node, version, kind, ANY[version], 80) == {"name": [ANY[version], 80]}


@both
@kinds
def test_a_closed_socket_is_forgotten(node: Node, version: int, kind: str) -> None:
    server = ADDRESSES[version][0]
    getattr(node.servers, kind)(server, 8080)
    node.put(frontend(VIP[version], server, protocol=kind.upper()))
    known = node.map("cilium_lb_reverse")
    kept, closed = node.open(version, kind), node.open(version, kind)
    for one in (kept, closed):
        node.do("connect", socket=one, to=[VIP[version], 80])
    assert len(known.dump()[0]) == 2
    node.do("close", socket=closed)
    assert known.dump()[0]["cookie"].tolist() == [node.do("cookie", socket=kept)["cookie"]]
    node.do("close", socket=kept)
    assert len(known.dump()[0]) == 0


def test_a_closed_socket_of_ipv6_that_talked_ipv4_is_forgotten(node: Node) -> None:
    server = ADDRESSES[4][0]
    node.servers.tcp(server, 8080)
    node.put(frontend(VIP[4], server))
    one = node.open(6, "tcp")
    node.do("connect", socket=one, to=[f"::ffff:{VIP[4]}", 80])
    assert len(node.map("cilium_lb_reverse").dump()[0]) == 1
    node.do("close", socket=one)
    assert len(node.map("cilium_lb_reverse").dump()[0]) == 0
