"""What is told of traffic, how often, and what is counted when nothing is told."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
from bpf.harness import LOOPBACK, NODE_MAC, Datapath
from bpf.packets import CLIENT, FAMILIES, SERVER, WORLD, echo, tcp, udp

from cilium.datapath.addresses import address_from
from cilium.datapath.generated.enums import (
    DropReason,
    EventFlags,
    EventType,
    FlowDirection,
    FlowVerdict,
    ObservationPoint,
    RuntimeFlags,
    TraceReason,
)

SYN, ACK, FIN, PSH = 0x02, 0x10, 0x01, 0x08


@pytest.fixture(params=FAMILIES)
def version(request: pytest.FixtureRequest) -> int:
    return request.param


def enforce(datapath: Datapath, version: int) -> None:
    datapath.endpoint(CLIENT[version], 1000, id=11, egress_policy=5)
    datapath.endpoint(SERVER[version], 2000, id=22, ifindex=LOOPBACK)
    datapath.rule(5, 2000, 1, cookie=501, match=1)


def test_the_record_of_a_drop(datapath: Datapath, version: int) -> None:
    datapath.endpoint(CLIENT[version], 1000, id=11, egress_policy=5)
    datapath.endpoint(SERVER[version], 2000, id=22, ifindex=77)
    packet = tcp(CLIENT[version], SERVER[version], 40000, 80)
    (event,) = datapath.run("from_lxc", packet).events
    assert (event["type"], event["reason"]) == (EventType.DROP, DropReason.POLICY_DENIED)
    assert (event["verdict"], event["direction"]) == (FlowVerdict.DROPPED, FlowDirection.EGRESS)
    assert (str(address_from(event["source"])), str(address_from(event["destination"]))) == (
        CLIENT[version],
        SERVER[version],
    )
    assert (event["source_port"], event["destination_port"], event["protocol"]) == (40000, 80, 6)
    assert (event["tcp_flags"], event["length"], event["packets"]) == (SYN, len(bytes(packet)), 1)
    assert (event["ifindex"], event["source_endpoint"], event["destination_endpoint"]) == (LOOPBACK, 11, 22)
    assert bytes(event["source_mac"]).hex(":") == "02:00:00:00:00:01"
    assert bytes(event["destination_mac"]).hex(":") == NODE_MAC
    assert 0 < event["time"] < 1 << 63


def test_a_connection_tells_its_start_its_first_reply_and_its_end(datapath: Datapath, version: int) -> None:
    enforce(datapath, version)
    client, server = CLIENT[version], SERVER[version]
    there = [datapath.run("from_lxc", tcp(client, server, flags=flags)).events for flags in ("S", "A", "PA", "PA")]
    assert [len(events) for events in there] == [1, 0, 0, 0]
    new = there[0][0]
    assert (new["reason"], new["flags"] & EventFlags.REPLY_KNOWN, new["flags"] & EventFlags.REPLY) == (
        TraceReason.NEW,
        EventFlags.REPLY_KNOWN,
        0,
    )
    assert (new["egress_cookie"], new["egress_match"]) == (501, 1)
    (reply,) = datapath.run("from_lxc", tcp(server, client, 80, 40000, "SA")).events
    assert reply["reason"] == TraceReason.REPLY
    assert reply["flags"] & EventFlags.REPLY
    assert not reply["flags"] & EventFlags.EGRESS_DECIDED  # told once, with the packet that was judged
    assert (reply["source_identity"], reply["destination_identity"]) == (2000, 1000)
    (end,) = datapath.run("from_lxc", tcp(client, server, flags="FA")).events
    assert end["reason"] == TraceReason.ESTABLISHED
    assert end["tcp_flags"] == FIN | ACK | PSH  # what was seen since the last event
    assert end["packets"] == 4


@pytest.mark.parametrize("flags", [0, RuntimeFlags.HIDE_RECEIVED], ids=["none", "low"])
def test_every_packet_is_told_without_aggregation(datapath: Datapath, version: int, flags: int) -> None:
    enforce(datapath, version)
    datapath.aggregation = 0
    datapath.set_runtime(flags=flags)
    told = [len(datapath.run("from_lxc", tcp(CLIENT[version], SERVER[version], flags="A")).events) for _ in range(4)]
    assert told == [1, 1, 1, 1]


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """The sampler is per CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("one_cpu")
def test_untracked_flows_are_sampled(datapath: Datapath, version: int) -> None:
    datapath.endpoint(CLIENT[version], 1000)
    datapath.endpoint(SERVER[version], 2000, ifindex=77)
    ask = udp(CLIENT[version], SERVER[version])
    assert [len(datapath.run("from_lxc", ask).events) for _ in range(3)] == [1, 0, 0]
    other = udp(CLIENT[version], SERVER[version], 40001)
    assert [len(datapath.run("from_lxc", other).events) for _ in range(2)] == [1, 0]
    datapath.aggregation = 0
    datapath.set_runtime()
    assert [len(datapath.run("from_lxc", ask).events) for _ in range(2)] == [1, 1]


@pytest.mark.usefixtures("one_cpu")
def test_changes_of_tcp_state_are_told_untracked_too(datapath: Datapath, version: int) -> None:
    datapath.endpoint(CLIENT[version], 1000)
    datapath.endpoint(SERVER[version], 2000, ifindex=77)
    told = [
        [
            int(event["reason"])
            for event in datapath.run("from_lxc", tcp(CLIENT[version], SERVER[version], flags=f)).events
        ]
        for f in ("S", "A", "SA", "FA", "R")
    ]
    assert told == [[TraceReason.NEW], [], [TraceReason.REPLY], [TraceReason.UNKNOWN], [TraceReason.UNKNOWN]]


def test_icmp_tells_type_and_code(datapath: Datapath, version: int) -> None:
    datapath.endpoint(CLIENT[version], 1000)
    (event,) = datapath.run("from_lxc", echo(CLIENT[version], WORLD[version])).events
    assert (event["source_port"], event["destination_port"]) == (8 if version == 4 else 128, 0)
    assert event["flags"] & EventFlags.REPLY_KNOWN


@pytest.mark.usefixtures("one_cpu")
def test_who_ping_each_other_by_one_identifier_are_both_seen(datapath: Datapath, version: int) -> None:
    """The reply of one has the addresses and the identifier of the other's request."""
    datapath.endpoint(CLIENT[version], 1000)
    datapath.endpoint(SERVER[version], 2000, ifindex=77)
    reply, request = echo(CLIENT[version], SERVER[version], reply=True), echo(CLIENT[version], SERVER[version])
    told = [len(datapath.run("from_lxc", packet).events) for packet in (reply, request, reply, request)]
    assert told == [1, 1, 0, 0]


def test_the_stack_gets_what_has_no_route(datapath: Datapath, version: int) -> None:
    datapath.endpoint(CLIENT[version], 1000)
    (event,) = datapath.run("from_lxc", udp(CLIENT[version], WORLD[version])).events
    assert event["point"] in (ObservationPoint.TO_STACK, ObservationPoint.TO_NETWORK)


def test_switched_off_nothing_is_told_but_all_is_counted(datapath: Datapath, version: int) -> None:
    enforce(datapath, version)
    datapath.set_runtime(flags=RuntimeFlags.EVENTS_OFF)
    packets = [tcp(CLIENT[version], SERVER[version]), tcp("10.9.9.9" if version == 4 else "fd99::9", SERVER[version])]
    assert [datapath.run("from_lxc", packet).events for packet in packets] == [[], []]
    assert datapath.count(DropReason.NONE, FlowDirection.EGRESS) == 1
    assert datapath.count(DropReason.NONE, FlowDirection.INGRESS) == 1
    assert datapath.count(DropReason.INVALID_SOURCE_IP, FlowDirection.EGRESS) == 1


def test_what_does_not_fit_is_counted(make_datapath) -> None:
    datapath = make_datapath(ring_bytes=4096)
    datapath.endpoint(CLIENT[4], 1000, egress_policy=5)
    for port in range(40):
        datapath.run_unread("from_lxc", tcp(CLIENT[4], WORLD[4], dport=port))
    written = len(list(datapath.events()))
    lost, _ = datapath.map("cilium_events_lost").lookup(np.array([EventType.DROP], np.uint32))
    assert written == (4096 - 1) // 136
    assert written + int(lost.sum()) == 40
