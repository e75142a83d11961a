"""Sockets of a cgroup under the real programs: what they connect and send to, and whom they believe to talk to."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Event

import pytest
from kernel.services.conftest import ADDRESSES, Node, frontend

from cilium.datapath.generated import ServiceFlags

pytestmark = pytest.mark.kernel
VIP = {4: "10.96.0.1", 6: "fd96::1"}
ANY = {4: "0.0.0.0", 6: "::"}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
both = pytest.mark.parametrize("version", [4, 6])


@both
def test_tcp(node: Node, version: int) -> None:
    server = ADDRESSES[version][0]
    node.servers.tcp(server, 8080)
    node.put(frontend(VIP[version], server))
    one = node.open(version, "tcp")
    assert node.do("connect", socket=one, to=[VIP[version], 80]) == {"peer": [VIP[version], 80]}
    assert node.do("ask", socket=one)["answer"] == f"{server} 8080"


@both
def test_udp_connected(node: Node, version: int) -> None:
    server = ADDRESSES[version][0]
    node.servers.udp(server, 5353)
    node.put(frontend(VIP[version], server, port=53, protocol="UDP", target=5353))
    one = node.open(version, "udp")
    assert node.do("connect", socket=one, to=[VIP[version], 53]) == {"peer": [VIP[version], 53]}
    assert node.do("ask", socket=one) == {"answer": f"{server} 5353", "from": [VIP[version], 53]}


@both
def test_udp_unconnected_keeps_its_backend(node: Node, version: int) -> None:
    first, second, stranger = ADDRESSES[version]
    for server in (first, second):
        node.servers.udp(server, 5353)
    node.servers.udp(stranger, 7)
    node.put(frontend(VIP[version], first, second, port=53, protocol="UDP", target=5353))
    one = node.open(version, "udp")
    answers = [node.do("send", socket=one, to=[VIP[version], 53]) for _ in range(8)]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["from"] == [VIP[version], 53], "the answer comes from whom was asked"
    assert node.do("send", socket=one, to=[stranger, 7])["from"] == [stranger, 7]
    chosen = set()
    for _ in range(64):
        other = node.open(version, "udp")
        chosen.add(node.do("send", socket=other, to=[VIP[version], 53])["answer"])
        node.do("close", socket=other)
    assert len(chosen) == 2, "another socket may get another one"


def test_a_socket_of_ipv6_that_talks_ipv4(node: Node) -> None:
    server = ADDRESSES[4][0]
    node.servers.tcp(server, 8080)
    node.servers.udp(server, 5353)
    node.put(frontend(VIP[4], server), frontend(VIP[4], server, port=53, protocol="UDP", target=5353))
    one = node.open(6, "tcp")
    assert node.do("connect", socket=one, to=[f"::ffff:{VIP[4]}", 80]) == {"peer": [f"::ffff:{VIP[4]}", 80]}
    assert node.do("ask", socket=one)["answer"] == f"{server} 8080"
    two = node.open(6, "udp")
    assert node.do("send", socket=two, to=[f"::ffff:{VIP[4]}", 53])["from"] == [f"::ffff:{VIP[4]}", 53]


@both
def test_every_backend_gets_its_share(node: Node, version: int) -> None:
    for server in ADDRESSES[version]:
        node.servers.tcp(server, 8080)
    node.put(frontend(VIP[version], *ADDRESSES[version]))
    answers = node.do("rush", family=version, to=[VIP[version], 80], count=600)["answers"]
    assert set(answers) == {f"{server} 8080" for server in ADDRESSES[version]}
    assert min(answers.values()) > 120, answers


@both
@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("flags", [0, ServiceFlags.LOCAL])
def test_nobody_there_is_refused_at_once(node: Node, version: int, kind: str, flags: int) -> None:
    """Also where a packet would be dropped silently."""
    row = frontend(VIP[version], protocol=kind.upper())
    node.put(row)
    node.mark(row, flags=flags)
    one = node.open(version, kind)
    assert node.do("connect", socket=one, to=[VIP[version], 80]) == {"errno": errno.EHOSTUNREACH}
    if kind == "udp":
        assert node.do("send", socket=one, to=[VIP[version], 80]) == {"errno": errno.EHOSTUNREACH}


@both
def test_what_is_no_service_is_left_alone(node: Node, version: int) -> None:
    server = ADDRESSES[version][0]
    for port in (80, 81, 8080):
        node.servers.tcp(server, port)
    node.servers.udp(server, 80)
    node.put(frontend(server, ADDRESSES[version][1], port=82))
    for port in (80, 81, 8080):
        one = node.open(version, "tcp")
        assert node.do("connect", socket=one, to=[server, port]) == {"peer": [server, port]}
    two = node.open(version, "udp")
    assert node.do("send", socket=two, to=[server, 80]) == {"answer": f"{server} 80", "from": [server, 80]}
    assert len(node.map("cilium_lb_reverse").dump()[0]) == 0


@both
def test_protocols_are_services_of_their_own(node: Node, version: int) -> None:
    first, second, _ = ADDRESSES[version]
    node.servers.tcp(first, 8080)
    node.servers.udp(second, 8080)
    node.put(frontend(VIP[version], first), frontend(VIP[version], second, protocol="UDP"))
    one = node.open(version, "tcp")
    node.do("connect", socket=one, to=[VIP[version], 80])
    assert node.do("ask", socket=one)["answer"] == f"{first} 8080"
    two = node.open(version, "udp")
    assert node.do("send", socket=two, to=[VIP[version], 80])["answer"] == f"{second} 8080"


@both
def test_a_node_port_is_every_nodes(node: Node, version: int) -> None:
    server, other_node, stranger = ADDRESSES[version]
    node.servers.tcp(server, 8080)
    node.put(frontend(ANY[version], server, port=30080))
    node.name_node(other_node, 6)
    node.name_node(stranger, 12345)
    for address in (other_node, LOOPBACK[version]):
        one = node.open(version, "tcp")
        assert node.do("connect", socket=one, to=[address, 30080]) == {"peer": [address, 30080]}
        assert node.do("ask", socket=one)["answer"] == f"{server} 8080"
    one = node.open(version, "tcp")
    assert node.do("connect", socket=one, to=[stranger, 30080]) == {"errno": errno.ECONNREFUSED}


@both
def test_loopback_of_a_pod_is_no_node(node: Node, version: int) -> None:
    """Programs of a host whose namespace is another one."""
    node.put(frontend(ANY[version], ADDRESSES[version][0], port=30080))
    with node.load(config_host_netns_cookie=0) as foreign:
        node.attach(foreign)
        one = node.open(version, "tcp")
        assert node.do("connect", socket=one, to=[LOOPBACK[version], 30080]) == {"errno": errno.ECONNREFUSED}


@both
def test_a_deleted_service_is_an_address_like_any_other(node: Node, version: int) -> None:
    server = ADDRESSES[version][0]
    node.servers.tcp(server, 8080)
    node.servers.tcp(server, 80)
    node.put(frontend(server, server))
    one = node.open(version, "tcp")
    node.do("connect", socket=one, to=[server, 80])
    assert node.do("ask", socket=one)["answer"] == f"{server} 8080"
    node.services.delete([frontend(server)])
    two = node.open(version, "tcp")
    node.do("connect", socket=two, to=[server, 80])
    assert node.do("ask", socket=two)["answer"] == f"{server} 80"
    assert node.do("ask", socket=one)["answer"] == f"{server} 8080", "what is connected stays connected"


@both
def test_no_connect_fails_while_backends_come_and_go(node: Node, version: int) -> None:
    """All three are healthy all the time: whatever subset the service has, every connect finds one of them."""
    servers = ADDRESSES[version]
    for server in servers:
        node.servers.tcp(server, 8080)
    subsets = [servers[:1], servers, servers[1:], servers[2:], servers[:2]]
    node.put(frontend(VIP[version], *servers))
    rushed = Event()

    def change() -> int:
        for number in count():
            node.put(frontend(VIP[version], *subsets[number % len(subsets)]))
            if number % 50 == 49:
                node.start()
            if rushed.is_set():
                return number
        raise AssertionError

    with ThreadPoolExecutor(1) as aside:
        changes = aside.submit(change)
        try:
            answers = node.do("rush", family=version, to=[VIP[version], 80], count=3000)["answers"]
        finally:
            rushed.set()
    assert changes.result() > len(subsets)
    assert set(answers) == {f"{server} 8080" for server in servers}, answers
    assert sum(answers.values()) == 3000


@both
def test_a_restart_keeps_translating_and_prunes_what_went(node: Node, version: int) -> None:
    server = ADDRESSES[version][0]
    node.servers.tcp(server, 8080)
    stay, go = frontend(VIP[version], server), frontend(VIP[version], server, port=81)
    node.put(stay, go)
    before = node.map("cilium_lb_services").dump()[1]["id"].tolist()
    node.start()
    one = node.open(version, "tcp")
    assert node.do("connect", socket=one, to=[VIP[version], 80]) == {"peer": [VIP[version], 80]}
    node.put(stay)
    node.services.prune([stay])
    after = node.map("cilium_lb_services").dump()[1]["id"].tolist()
    assert len(after) == 1
    assert after[0] in before


def test_without_hooks_nothing_is_translated(node: Node) -> None:
    server = ADDRESSES[4][0]
    node.servers.tcp(server, 8080)
    node.put(frontend(server, server))
    node.hooks.prune([])
    one = node.open(4, "tcp")
    assert node.do("connect", socket=one, to=[server, 80]) == {"errno": errno.ECONNREFUSED}
