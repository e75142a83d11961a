"""Which services a socket means, and which backend it gets: affinity, loopback, host ports, local redirects."""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from ipaddress import ip_address

import numpy as np
import pytest
from kernel.services.conftest import ADDRESSES, Node, Place, frontend

from cilium.datapath.addresses import addresses_array
from cilium.datapath.generated import AFFINITY_MATCH_KEY, SKIP_KEY, AffinityKind, ServiceFlags
from cilium.tables.services import Frontend, Scope

pytestmark = pytest.mark.kernel
VIP = {4: "10.96.0.1", 6: "fd96::1"}
ANY = {4: "0.0.0.0", 6: "::"}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
HOST, REMOTE_NODE = 1, 6
SECOND = 1_000_000_000
both = pytest.mark.parametrize("version", [4, 6])


class Affinity:
    """A service with session affinity, its backends, and what the kernel remembers of its clients."""

    def __init__(self, node: Node, row: Frontend, timeout: int = 100) -> None:
        self.node, self.row, self.timeout = node, row, timeout
        self.put([str(backend.address) for backend in row.backends])

    def put(self, servers: Sequence[str]) -> None:
        """As the agent does: the row, and who may keep whom."""
        row = frontend(str(self.row.address), *servers, port=self.row.port, protocol=self.row.protocol)
        self.node.put(row)
        self.id = self.node.mark(row, affinity_timeout=self.timeout)
        matches = self.node.map("cilium_lb_affinity_match")
        matches.delete(matches.dump()[0])
        keys = np.zeros(len(servers), AFFINITY_MATCH_KEY)
        keys["service"], keys["backend"] = self.id, [self.backend(server) for server in servers]
        matches.update(keys, np.ones(len(servers), np.uint32))

    def backend(self, server: str) -> int:
        _, records = self.node.map("cilium_lb_backends").dump()
        wanted = addresses_array([ip_address(server)])[0]
        return next(number for number, record in enumerate(records) if (record["address"] == wanted).all())

    def remember(self, place: Place, *, backend: str, ago: float) -> None:
        keys, values = self._of(place)
        values["backend"], values["used"] = self.backend(backend), time.monotonic_ns() - int(ago * SECOND)
        self.node.map("cilium_lb_affinity").update(keys, values)

    def used(self, place: Place) -> int:
        _, values = self._of(place)
        return int(values["used"][0])

    def _of(self, place: Place) -> tuple[np.ndarray, np.ndarray]:
        keys, values = self.node.map("cilium_lb_affinity").dump()
        mine = (keys["kind"] == AffinityKind.SOCKET) & (keys["service"] == self.id)
        cookies = np.ascontiguousarray(keys["client"]).view("<u8")[:, 1]
        assert not np.ascontiguousarray(keys["client"]).view("<u8")[:, 0].any()
        mine &= cookies == place.cookie
        assert mine.sum() == 1, keys
        return keys[mine], values[mine]


def rush(place: Place, version: int, count: int = 40) -> set[str]:
    return set(place.do("rush", family=version, to=[VIP[version], 80], count=count)["answers"])


@both
def test_with_affinity_a_namespace_stays_with_a_backend(node: Node, pod: Place, version: int) -> None:
    servers = ADDRESSES[version]
    for place in (node, pod):
        for server in servers:
            place.servers.tcp(server, 8080)
    affinity = Affinity(node, frontend(VIP[version], *servers))
    assert len(rush(node, version)) == 1
    assert len(rush(pod, version)) == 1, "another client"
    affinity.remember(node, backend=servers[1], ago=1)
    affinity.remember(pod, backend=servers[2], ago=1)
    assert rush(node, version) == {f"{servers[1]} 8080"}
    assert rush(pod, version) == {f"{servers[2]} 8080"}
    assert time.monotonic_ns() - affinity.used(pod) < SECOND, "every connect counts"


@both
def test_affinity_ends_with_the_timeout(node: Node, version: int) -> None:
    servers = ADDRESSES[version]
    for server in servers:
        node.servers.tcp(server, 8080)
    affinity = Affinity(node, frontend(VIP[version], *servers))
    seen = set()
    for _ in range(30):
        rush(node, version, 1)
        affinity.remember(node, backend=servers[0], ago=101)
        seen |= rush(node, version, 1)
        assert time.monotonic_ns() - affinity.used(node) < 5 * SECOND
    assert len(seen) == 3, "chosen anew"


@both
def test_affinity_ends_with_the_backend(node: Node, version: int) -> None:
    servers = ADDRESSES[version]
    for server in servers:
        node.servers.tcp(server, 8080)
    affinity = Affinity(node, frontend(VIP[version], *servers))
    rush(node, version, 1)
    affinity.remember(node, backend=servers[0], ago=0)
    assert rush(node, version) == {f"{servers[0]} 8080"}
    affinity.put(servers[1:])
    after = rush(node, version)
    assert len(after) == 1
    assert after < {f"{server} 8080" for server in servers[1:]}
    affinity.put([])
    assert rush(node, version, 1) == {f"errno {errno.EHOSTUNREACH}"}


@both
def test_datagrams_have_affinity_too(node: Node, version: int) -> None:
    servers = ADDRESSES[version]
    for server in servers:
        node.servers.udp(server, 8080)
    Affinity(node, frontend(VIP[version], *servers, protocol="UDP"))
    answers = set()
    for number in range(30):
        one = node.open(version, "udp")
        if number % 2:
            answers.add(node.do("send", socket=one, to=[VIP[version], 80])["answer"])
        else:
            node.do("connect", socket=one, to=[VIP[version], 80])
            answers.add(node.do("ask", socket=one)["answer"])
    assert len(answers) == 1


@both
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_only_sockets_of_the_host(node: Node, pod: Place, version: int, kind: str) -> None:
    first, second, _ = ADDRESSES[version]
    for place in (node, pod):
        getattr(place.servers, kind)(first, 8080)
        getattr(place.servers, kind)(second, 80)
    node.put(frontend(second, first, protocol=kind.upper()))
    answers = {}
    with node.load(config_sock_host_only=1) as only:
        node.attach(only)
        for name, place in (("node", node), ("pod", pod)):
            one = place.open(version, kind)
            assert place.do("connect", socket=one, to=[second, 80]) == {"peer": [second, 80]}
            answers[name] = place.do("ask", socket=one)["answer"]
    assert answers == {"node": f"{first} 8080", "pod": f"{second} 80"}


@both
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_pod_that_means_the_address_itself(node: Node, pod: Place, version: int, kind: str) -> None:
    first, second, _ = ADDRESSES[version]
    for place in (node, pod):
        getattr(place.servers, kind)(first, 8080)
        getattr(place.servers, kind)(second, 80)
    row = frontend(second, first, protocol=kind.upper())
    node.put(row)
    node.mark(row, flags=ServiceFlags.REDIRECT)
    skip = np.zeros(1, SKIP_KEY)
    skip["netns_cookie"], skip["address"], skip["port"] = pod.cookie, addresses_array([ip_address(second)]), 80
    skip["protocol"] = 6 if kind == "tcp" else 17
    skips = node.map("cilium_lb_skip")

    def asked(place: Place) -> str:
        one = place.open(version, kind)
        place.do("connect", socket=one, to=[second, 80])
        return str(place.do("ask", socket=one)["answer"])

    assert asked(pod) == f"{first} 8080"
    skips.update(skip, np.ones(1, np.uint32))
    assert asked(pod) == f"{second} 80"
    assert asked(node) == f"{first} 8080"
    skips.delete(skip)
    assert asked(pod) == f"{first} 8080"


@both
def test_a_pod_that_is_not_redirected_gets_what_the_service_has_else(node: Node, pod: Place, version: int) -> None:
    first, second, _ = ADDRESSES[version]
    for place in (node, pod):
        for server in (first, second):
            place.servers.tcp(server, 8080)
    vip = VIP[version]
    row = frontend(vip, first)
    node.put(row, frontend(vip, second, scope=Scope.ORIGINAL))
    node.mark(row, flags=ServiceFlags.REDIRECT)
    skip = np.zeros(1, SKIP_KEY)
    skip["netns_cookie"], skip["address"], skip["port"] = pod.cookie, addresses_array([ip_address(vip)]), 80
    skip["protocol"] = 6
    node.map("cilium_lb_skip").update(skip, np.ones(1, np.uint32))
    for place, server in ((node, first), (pod, second)):
        one = place.open(version, "tcp")
        assert place.do("connect", socket=one, to=[vip, 80]) == {"peer": [vip, 80]}
        assert place.do("ask", socket=one)["answer"] == f"{server} 8080"


@both
def test_a_host_port_is_a_port_of_this_node(node: Node, pod: Place, version: int) -> None:
    server, this_node, other_node = ADDRESSES[version]
    for place in (node, pod):
        place.servers.tcp(server, 8080)
    row = frontend(ANY[version], server, port=8081)
    node.put(row)
    node.mark(row, flags=ServiceFlags.HOST_PORT)
    node.name_node(this_node, HOST)
    node.name_node(other_node, REMOTE_NODE)

    def asked(place: Place, address: str) -> object:
        one = place.open(version, "tcp")
        return place.do("connect", socket=one, to=[address, 8081])

    refused = {"errno": errno.ECONNREFUSED}
    assert asked(node, this_node) == asked(pod, this_node) == {"peer": [this_node, 8081]}
    assert asked(node, LOOPBACK[version]) == {"peer": [LOOPBACK[version], 8081]}
    assert asked(node, other_node) == asked(pod, LOOPBACK[version]) == refused
    with node.load(config_host_ports=0) as without:
        node.attach(without)
        assert asked(node, this_node) == refused


@both
def test_an_address_that_stands_for_oneself(node: Node, pod: Place, version: int) -> None:
    """The unspecified address, which is a node port's in the map, and a service that claims a loopback address."""
    server = ADDRESSES[version][0]
    for place in (node, pod):
        place.servers.tcp(server, 8080)
    node.put(frontend(ANY[version], server, port=30080), frontend(LOOPBACK[version], server, port=8081))
    for address, port in ((ANY[version], 30080), (LOOPBACK[version], 8081)):
        for place, expected in ((node, {"peer": [address, port]}), (pod, {"errno": errno.ECONNREFUSED})):
            one = place.open(version, "tcp")
            assert place.do("connect", socket=one, to=[address, port]) == expected
