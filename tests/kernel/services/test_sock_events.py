"""What the ring tells of translations in sockets: both ends, whose socket it was, and no more than is asked for."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address

import numpy as np
import pytest
from kernel.services.conftest import ADDRESSES, Node, Place, frontend

from cilium.datapath.addresses import address_from
from cilium.datapath.generated import RUNTIME, SOCK_EVENT, EventType, FlowVerdict, RuntimeFlags, SockPoint
from cilium.datapath.ringbuf import RingBuffer
from cilium.hubble.records import Records
from cilium.hubble.ring import RingReader
from cilium.tables.types import IPAddress

pytestmark = pytest.mark.kernel
VIP = {4: "10.96.0.1", 6: "fd96::1"}
SECOND = 1_000_000_000
UNBOUND = ip_address("::")
both = pytest.mark.parametrize("version", [4, 6])
kinds = pytest.mark.parametrize("kind", ["tcp", "udp"])


class Told:
    """Reads the ring; `aggregate` is the agent's switch."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._new: list[np.void] = []
        self._ring = RingBuffer("cilium_events", node.pins)
        self._reader = RingReader(self._ring, self._take)
        self.aggregate(5 * SECOND)

    def aggregate(self, interval: int, flags: int = 0) -> None:
        values = np.zeros(1, RUNTIME)
        values["aggregation"], values["flags"] = interval, flags
        self._node.map("cilium_runtime").update(np.zeros(1, np.uint32), values)

    def new(self) -> list[np.void]:
        self._new.clear()
        self._reader.drain()
        return list(self._new)

    def close(self) -> None:
        self._ring.close()

    def _take(self, records: Records) -> None:
        self._new.extend(np.frombuffer(records.tobytes(), SOCK_EVENT))


@pytest.fixture
def told(node: Node) -> Iterator[Told]:
    with closing(Told(node)) as made:
        yield made


def ends(record: np.void, name: str) -> tuple[IPAddress, int]:
    return address_from(record[name]), int(record[f"{name}_port"])


def directions(records: list[np.void]) -> list[SockPoint]:
    return [SockPoint(record["point"]) for record in records]


@both
@kinds
def test_a_connection(node: Node, pod: Place, told: Told, version: int, kind: str) -> None:
    server = ADDRESSES[version][0]
    getattr(pod.servers, kind)(server, 8080)
    node.put(frontend(VIP[version], server, protocol=kind.upper()))
    one = pod.open(version, kind)
    before = time.monotonic_ns()
    pod.do("connect", socket=one, to=[VIP[version], 80])
    pod.do("ask", socket=one)
    (record,) = told.new()
    assert before < record["time"] < time.monotonic_ns()
    assert (record["type"], record["point"]) == (EventType.TRACE_SOCK, SockPoint.FORWARD)
    assert record["verdict"] == FlowVerdict.TRANSLATED
    assert record["protocol"] == (socket.IPPROTO_TCP if kind == "tcp" else socket.IPPROTO_UDP)
    assert ends(record, "destination") == (ip_address(VIP[version]), 80)
    assert ends(record, "translated") == (ip_address(server), 8080)
    assert ends(record, "source") == (UNBOUND, 0)
    assert record["socket_cookie"] == pod.do("cookie", socket=one)["cookie"]
    assert record["netns_cookie"] == pod.cookie
    assert record["cgroup_id"] == pod.cgroup.stat().st_ino
    assert not any(record[name].any() for name in SOCK_EVENT.names or () if name.startswith("unset"))


@both
def test_a_socket_that_is_bound_says_so(node: Node, told: Told, version: int) -> None:
    server, own, _ = ADDRESSES[version]
    node.put(frontend(VIP[version], server, protocol="UDP"))
    one = node.open(version, "udp")
    node.do("bind", socket=one, to=[own, 4711])
    node.do("connect", socket=one, to=[VIP[version], 80])
    (record,) = told.new()
    assert ends(record, "source") == (ip_address(own), 4711)
    assert record["netns_cookie"] == node.cookie


def test_a_socket_of_ipv6_that_talks_ipv4(node: Node, told: Told) -> None:
    node.put(frontend(VIP[4], ADDRESSES[4][0], protocol="UDP"))
    one = node.open(6, "udp")
    node.do("connect", socket=one, to=[f"::ffff:{VIP[4]}", 80])
    (record,) = told.new()
    assert ends(record, "destination") == (ip_address(VIP[4]), 80)
    assert ends(record, "translated") == (ip_address(ADDRESSES[4][0]), 8080)


@both
def test_datagrams_are_told_once_per_backend(node: Node, told: Told, version: int) -> None:
    first, second, _ = ADDRESSES[version]
    for server in (first, second):
        node.servers.udp(server, 8080)
    node.put(frontend(VIP[version], first, protocol="UDP"))
    one = node.open(version, "udp")
    for _ in range(5):
        node.do("send", socket=one, to=[VIP[version], 80])
    assert directions(told.new()) == [SockPoint.FORWARD]
    node.put(frontend(VIP[version], second, protocol="UDP"))
    for _ in range(5):
        node.do("send", socket=one, to=[VIP[version], 80])
    (record,) = told.new()
    assert ends(record, "translated") == (ip_address(second), 8080)


@both
def test_without_aggregation_everything_is_told(node: Node, told: Told, version: int) -> None:
    server = ADDRESSES[version][0]
    node.servers.udp(server, 8080)
    node.put(frontend(VIP[version], server, protocol="UDP"))
    told.aggregate(0)
    one = node.open(version, "udp")
    for _ in range(3):
        node.do("send", socket=one, to=[VIP[version], 80])
    records = told.new()
    assert directions(records) == [SockPoint.FORWARD, SockPoint.REVERSE] * 3
    assert ends(records[1], "destination") == (ip_address(server), 8080)
    assert ends(records[1], "translated") == (ip_address(VIP[version]), 80)


@both
def test_with_low_aggregation_answers_are_not_told(node: Node, told: Told, version: int) -> None:
    server = ADDRESSES[version][0]
    node.servers.udp(server, 8080)
    node.put(frontend(VIP[version], server, protocol="UDP"))
    told.aggregate(0, RuntimeFlags.HIDE_RECEIVED)
    one = node.open(version, "udp")
    for _ in range(3):
        node.do("send", socket=one, to=[VIP[version], 80])
    assert directions(told.new()) == [SockPoint.FORWARD] * 3


@both
@kinds
def test_nothing_is_told(node: Node, told: Told, version: int, kind: str) -> None:
    """Of what is no service, of what nobody serves, and of anything when events are off."""
    server = ADDRESSES[version][0]
    getattr(node.servers, kind)(server, 8080)
    node.put(frontend(VIP[version], protocol=kind.upper()))
    for address, port in ((server, 8080), (VIP[version], 80)):
        one = node.open(version, kind)
        node.do("connect", socket=one, to=[address, port])
    node.put(frontend(VIP[version], server, protocol=kind.upper()))
    told.aggregate(0, RuntimeFlags.EVENTS_OFF)
    one = node.open(version, kind)
    node.do("connect", socket=one, to=[VIP[version], 80])
    assert told.new() == []


def test_what_does_not_fit_is_counted(node: Node, told: Told) -> None:
    node.put(frontend(VIP[4], ADDRESSES[4][0], protocol="UDP"))
    one = node.open(4, "udp")
    for _ in range(600):
        node.do("connect", socket=one, to=[VIP[4], 80])
    records = len(told.new())
    _, lost = node.map("cilium_events_lost").dump()
    assert 0 < records < 600
    assert int(lost[EventType.TRACE_SOCK].sum()) == 600 - records
