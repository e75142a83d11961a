"""Translations in real sockets as flows: which pod asked for which service, and what it got."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address

import numpy as np
import pytest
from kernel.services.conftest import ADDRESSES, Node, Place
from kernel.services.conftest import frontend as row
from unit.hubble.world import Cluster

from cilium.api.proto.flow import flow_pb2 as pb
from cilium.datapath.generated import RUNTIME
from cilium.datapath.ringbuf import RingBuffer
from cilium.hubble.collector import Collector
from cilium.hubble.flows import FlowDecoder
from cilium.hubble.names import Names
from cilium.hubble.rows import FlowRows
from cilium.hubble.store import EventStore
from cilium.tables.endpoints import Endpoint

pytestmark = pytest.mark.kernel
VIP = {4: "10.96.0.1", 6: "fd96::1"}
SERVICE = pb.Service(namespace="shop", name="web")
SECOND = 1_000_000_000
both = pytest.mark.parametrize("version", [4, 6])


class Hubble:
    """What the agent knows of the pod, and the flows of the node's ring."""

    def __init__(self, node: Node, pod: Place) -> None:
        self._node = node
        self.aggregate(SECOND)
        self.cluster = Cluster()
        self.cluster.endpoints.upsert(
            Endpoint(id=65535, kind="host", addresses=(), netns_cookie=node.cookie)  # type: ignore[arg-type]
        )
        self.cluster.endpoints.upsert(
            Endpoint(
                id=30,  # type: ignore[arg-type]
                kind="pod",
                addresses=tuple(ip_address(ADDRESSES[version][2]) for version in (4, 6)),
                netns_cookie=pod.cookie,
                namespace="default",
                pod="caller",
            )
        )
        self.names = Names(self.cluster.tables)
        self._decoder = FlowDecoder(self.names, node_name="default/n1", instance=bytes(8))
        self._ring = RingBuffer("cilium_events", node.pins)
        self._store = EventStore(1000)
        self._collector = Collector(self._ring, self._store)

    def aggregate(self, interval: int) -> None:
        """0: answers are told, too."""
        values = np.zeros(1, RUNTIME)
        values["aggregation"] = interval
        self._node.map("cilium_runtime").update(np.zeros(1, np.uint32), values)

    def serve(self, version: int, kind: str) -> None:
        backend = ADDRESSES[version][0]
        service = row(VIP[version], backend, protocol=kind.upper())
        self._node.put(service)
        self.cluster.frontends.upsert(service)
        self.names.refresh()

    def flows(self) -> list[pb.Flow]:
        self._collector.poll()
        return self._decoder.flows(FlowRows(self._store.read(0, self._store.end), 0, self.names))

    def close(self) -> None:
        self._ring.close()


@pytest.fixture
def hubble(node: Node, pod: Place) -> Iterator[Hubble]:
    with closing(Hubble(node, pod)) as made:
        yield made


@both
def test_a_pod_connects(hubble: Hubble, pod: Place, version: int) -> None:
    pod.servers.tcp(ADDRESSES[version][0], 8080)
    hubble.serve(version, "tcp")
    one = pod.open(version, "tcp")
    pod.do("connect", socket=one, to=[VIP[version], 80])
    before, after = hubble.flows()
    for flow in (before, after):
        assert (flow.Type, flow.destination_service) == (pb.SOCK, SERVICE)
        assert (flow.source.ID, flow.source.pod_name) == (30, "caller")
        assert flow.IP.source == ADDRESSES[version][2]
        assert flow.socket_cookie == pod.do("cookie", socket=one)["cookie"]
        assert flow.cgroup_id == pod.cgroup.stat().st_ino
    assert (before.verdict, before.IP.destination, before.l4.TCP.destination_port) == (pb.TRACED, VIP[version], 80)
    assert (after.verdict, after.IP.destination) == (pb.TRANSLATED, ADDRESSES[version][0])
    assert after.l4.TCP.destination_port == 8080

    hubble.cluster.endpoints.commit(deletes=[30])  # type: ignore[list-item]
    hubble.names.refresh()
    assert {flow.source.pod_name for flow in hubble.flows()} == {"caller"}


@both
def test_datagrams_of_the_node_and_their_answers(hubble: Hubble, node: Node, version: int) -> None:
    node.servers.udp(ADDRESSES[version][0], 8080)
    hubble.serve(version, "udp")
    hubble.aggregate(0)
    one = node.open(version, "udp")
    node.do("send", socket=one, to=[VIP[version], 80])
    flows = hubble.flows()
    assert [flow.sock_xlate_point for flow in flows] == [1, 2, 3, 4]
    assert [flow.source.identity for flow in flows[:2]] == [1, 1]
    assert [flow.destination_service.name for flow in flows] == ["web", "web", "", ""]
    assert [flow.source_service.name for flow in flows] == ["", "", "web", "web"]
    assert [flow.IP.source for flow in flows[2:]] == [ADDRESSES[version][0], VIP[version]]
    assert flows[3].l4.UDP.source_port == 80
