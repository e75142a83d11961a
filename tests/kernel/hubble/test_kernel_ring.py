"""Events of the real programs, through the kernel's ring buffer, as the client sees them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest
from bpf.balanced import Services
from bpf.harness import LOOPBACK, Datapath
from bpf.packets import CLIENT, FAMILIES, SERVER, WORLD, echo, tcp, udp
from unit.hubble.world import WEB, WEB6, Cluster

from cilium.api.proto.flow import flow_pb2 as pb
from cilium.datapath.ringbuf import RingBuffer
from cilium.datapath.testrun import SkBuff, run_program
from cilium.hubble.collector import Collector
from cilium.hubble.flows import FlowDecoder
from cilium.hubble.losses import LossCounter
from cilium.hubble.names import Names
from cilium.hubble.ring import STRIDE
from cilium.hubble.rows import FlowRows
from cilium.hubble.store import EventStore

MakeDatapath = Callable[..., Datapath]


class Watched:
    """A datapath and the collector on its ring."""

    def __init__(self, datapath: Datapath, capacity: int = 65_535) -> None:
        self.datapath = datapath
        self.ring = RingBuffer(datapath._object("lxc").maps["cilium_events"])
        self.lost = LossCounter(datapath.map("cilium_events_lost"))
        self.store = EventStore(capacity)
        self.collector = Collector(self.ring, self.store, lost=self.lost)
        self.decoder = FlowDecoder(Names(Cluster().tables), node_name="default/n1", instance=bytes(8))

    def flows(self) -> list[pb.Flow]:
        self.collector.poll()
        return self.decoder.flows(FlowRows(self.store.read(0, self.store.end), 0))

    def drop_repeatedly(self, packet: bytes, count: int) -> None:
        """The kernel runs the program `count` times in a row."""
        run_program(self.datapath.program("from_lxc"), packet, context=SkBuff(ifindex=LOOPBACK), repeat=count)


@pytest.fixture
def watched(make_datapath: MakeDatapath) -> Iterator[Watched]:
    found = Watched(make_datapath())
    yield found
    found.ring.close()


@pytest.mark.parametrize("version", FAMILIES)
def test_a_refused_packet(watched: Watched, version: int) -> None:
    datapath, client, server = watched.datapath, CLIENT[version], SERVER[version]
    datapath.endpoint(client, 1000, id=11, egress_policy=5)
    datapath.endpoint(server, 2000, id=22)
    before = time.time_ns()
    datapath.run_unread("from_lxc", tcp(client, server, 40000, 80))
    verdict, dropped = watched.flows()
    assert before - 50_000_000 < dropped.time.ToNanoseconds() < time.time_ns() + 50_000_000
    assert (verdict.event_type.type, dropped.event_type.type) == (5, 1)
    assert (verdict.verdict, dropped.drop_reason_desc) == (pb.DROPPED, pb.POLICY_DENIED)
    assert (dropped.IP.source, dropped.IP.destination) == (client, server)
    assert (dropped.l4.TCP.destination_port, dropped.Summary) == (80, "TCP Flags: SYN")
    assert (dropped.source.identity, dropped.destination.identity) == (1000, 2000)
    assert (dropped.source.ID, dropped.destination.ID) == (11, 22)
    assert dropped.traffic_direction == pb.EGRESS
    assert dropped.interface.index == LOOPBACK


@pytest.mark.parametrize("version", FAMILIES)
def test_a_connection_and_its_reply(watched: Watched, version: int) -> None:
    datapath, client, server = watched.datapath, CLIENT[version], SERVER[version]
    datapath.endpoint(client, 1000, id=11, egress_policy=5)
    datapath.endpoint(server, 2000, id=22)
    datapath.rule(5, 2000, 1, cookie=7, match=1)
    datapath.run_unread("from_lxc", tcp(client, server, 40000, 80))
    datapath.run_unread("from_lxc", tcp(server, client, 80, 40000, "SA"))
    verdict, seen, reply = watched.flows()
    assert (verdict.policy_match_type, verdict.verdict) == (1, pb.FORWARDED)
    assert verdict.egress_allowed_by[0].name == "client-out"
    assert (seen.trace_observation_point, seen.is_reply.value) == (pb.TO_ENDPOINT, False)
    assert (seen.traffic_direction, seen.trace_reason) == (pb.INGRESS, pb.NEW)
    assert (reply.is_reply.value, reply.trace_reason) == (True, pb.REPLY)
    assert reply.traffic_direction == pb.EGRESS
    assert reply.egress_allowed_by[0].name == "client-out"
    assert (reply.source.ID, reply.destination.ID) == (22, 11)


@pytest.mark.parametrize("version", FAMILIES)
def test_other_protocols(watched: Watched, version: int) -> None:
    datapath, client, server = watched.datapath, CLIENT[version], SERVER[version]
    datapath.endpoint(client, 1000, id=11)
    datapath.endpoint(server, 2000, id=22)
    for packet in (udp(client, server, 5000, 53), echo(client, server), echo(server, client, reply=True)):
        datapath.run_unread("from_lxc", packet)
    ask, ping, pong = watched.flows()
    assert (ask.l4.UDP.source_port, ask.l4.UDP.destination_port) == (5000, 53)
    assert [flow.Summary for flow in (ping, pong)] == [
        f"ICMPv{version} EchoRequest",
        f"ICMPv{version} EchoReply",
    ]
    assert (ping.is_reply.value, pong.is_reply.value) == (False, True)


@pytest.mark.parametrize("version", FAMILIES)
def test_a_packet_to_a_service(make_datapath: MakeDatapath, version: int) -> None:
    """The service and where it leads, then the backend. Nobody there: the refused one names the service too."""
    watched = Watched(make_datapath(services=1))
    datapath, client, server, web = watched.datapath, CLIENT[version], SERVER[version], {4: WEB, 6: WEB6}[version]
    datapath.endpoint(client, 1000, id=11)
    datapath.endpoint(server, 2000, id=22)
    services = Services(datapath)
    services.put(web, 80, (server, 8080))
    datapath.run_unread("from_lxc", tcp(client, web, 40000, 80))
    services.put(web, 80)
    datapath.run_unread("from_lxc", tcp(client, web, 40001, 80))
    asked, seen, refused = watched.flows()
    watched.ring.close()
    assert (asked.trace_observation_point, asked.IP.destination) == (pb.FROM_ENDPOINT, web)
    world = {4: 9, 6: 10}[version]
    assert (asked.destination_service.name, asked.destination.identity, asked.source.ID) == ("web", world, 11)
    place = f"{server}:8080" if version == 4 else f"[{server}]:8080"
    assert (asked.Summary, asked.IP.source_xlated) == (f"TCP Flags: SYN; to {place}", "")
    assert (seen.trace_observation_point, seen.IP.destination, seen.destination.ID) == (pb.TO_ENDPOINT, server, 22)
    assert not seen.HasField("destination_service")
    assert (refused.drop_reason_desc, refused.destination_service.name) == (pb.SERVICE_BACKEND_NOT_FOUND, "web")


def test_a_spoofed_source(watched: Watched) -> None:
    watched.datapath.run_unread("from_lxc", tcp(WORLD[4], SERVER[4]))
    (flow,) = watched.flows()
    assert flow.drop_reason_desc == pb.INVALID_SOURCE_IP


def test_what_the_ring_cannot_hold_is_counted_to_the_event(make_datapath: MakeDatapath) -> None:
    watched = Watched(make_datapath(ring_bytes=1 << 16))
    packet, sent = bytes(tcp(WORLD[4], SERVER[4])), 10_000
    watched.drop_repeatedly(packet, sent)
    watched.collector.poll()
    assert watched.store.end == (1 << 16) // STRIDE
    assert watched.store.lost == sent - watched.store.end
    assert watched.lost.by_type() == {1: watched.store.lost}
    watched.drop_repeatedly(packet, 100)
    watched.collector.poll()
    assert watched.store.end + watched.store.lost == sent + 100
    (loss,) = watched.store.losses(0, watched.store.end)
    assert loss.sequence == (1 << 16) // STRIDE
    watched.ring.close()


async def test_nothing_is_lost_at_half_a_million_events_per_second(make_datapath: MakeDatapath) -> None:
    """The writer's bursts are a thousand events, two milliseconds apart; the collector has its own pace."""
    watched = Watched(make_datapath(ring_bytes=1 << 24))
    task = asyncio.ensure_future(watched.collector.run())
    packet, sent = bytes(tcp(WORLD[4], SERVER[4])), 0
    for _ in range(400):
        watched.drop_repeatedly(packet, 1000)
        sent += 1000
        await asyncio.sleep(0.002)
    async with asyncio.timeout(10):
        while watched.store.end + watched.lost() < sent:
            await watched.store.wait(watched.store.end)
    task.cancel()
    assert (watched.lost(), watched.store.end) == (0, sent)
    watched.ring.close()


def test_a_reader_that_starts_again_goes_on_where_the_last_one_was(watched: Watched) -> None:
    packet = bytes(tcp(WORLD[4], SERVER[4]))
    watched.drop_repeatedly(packet, 10)
    watched.collector.poll()
    watched.drop_repeatedly(packet, 5)
    again = Watched(watched.datapath)
    again.collector.poll()
    assert again.store.end == 5
    again.ring.close()
