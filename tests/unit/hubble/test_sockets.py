"""Translations in sockets as flows: before and after, forwards and backwards, of pods, of the node, of strangers."""

from ipaddress import ip_address
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import ParseDict
from unit.hubble.world import (
    CGROUP,
    CLIENT,
    CLIENT6,
    CLIENT_COOKIE,
    ECHO,
    ECHO6,
    HOST_COOKIE,
    NODE,
    REMOTE,
    STRANGER_COOKIE,
    WEB,
    WEB6,
    WORLD,
    Cluster,
    endpoint,
    frontend,
    record,
    records,
    socket_record,
)

from cilium.api.proto.flow import flow_pb2 as pb
from cilium.datapath.generated import EventFlags, EventType, FlowVerdict, ObservationPoint, SockPoint
from cilium.hubble.addresses import packed
from cilium.hubble.filter_fields import Context
from cilium.hubble.filters import FilterSet
from cilium.hubble.flows import FlowDecoder
from cilium.hubble.names import Names
from cilium.hubble.records import EVENT, Records
from cilium.hubble.rows import FlowRows
from cilium.hubble.store import EventStore, flows_in

REVERSE = {
    "point": SockPoint.REVERSE,
    "destination": ECHO,
    "destination_port": 8080,
    "translated": WEB,
    "translated_port": 80,
}
CONNECT6 = {"destination": WEB6, "translated": ECHO6}


class World:
    """The cluster, and who reads its records."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.names = Names(self.cluster.tables)
        self.decoder = FlowDecoder(self.names, node_name="default/n1", instance=bytes(8))

    def rows(self, told: Records, first: int = 0) -> FlowRows:
        return FlowRows(told, first, self.names)

    def flows(self, told: Records) -> list[pb.Flow]:
        return self.decoder.flows(self.rows(told))

    def select(self, told: Records, white: dict[str, Any], black: dict[str, Any] | None = None) -> list[str]:
        """Summary and destination or point of the flows that pass."""
        context = Context(self.names, "default/n1", self.decoder.uuid_place)
        filters = FilterSet(
            [ParseDict(white, pb.FlowFilter())], [ParseDict(black, pb.FlowFilter())] if black else [], context
        )
        candidates = filters.candidates(self.rows(told))
        decoded = self.decoder.flows(candidates.rows)
        return [_short(flow) for place, flow in enumerate(decoded) if candidates.confirm(place, flow)]


def _short(flow: pb.Flow) -> str:
    point = f"s{flow.sock_xlate_point}" if flow.Type == pb.SOCK else f"p{flow.event_type.type}"
    return f"{point} {flow.IP.source}>{flow.IP.destination}"


@pytest.fixture
def world() -> World:
    return World()


def test_a_connect_before_and_after(world: World) -> None:
    before, after = world.flows(socket_record())
    for flow in (before, after):
        assert (flow.Type, flow.event_type.type) == (pb.SOCK, 7)
        assert (flow.socket_cookie, flow.cgroup_id) == (77, CGROUP)
        assert (flow.source.ID, flow.source.pod_name, flow.source.identity) == (10, "client", 1111)
        assert flow.source.labels[0] == "k8s:app=client"
        assert (flow.IP.source, flow.IP.ipVersion, flow.l4.TCP.source_port) == (CLIENT, pb.IPv4, 0)
        assert flow.destination_service == pb.Service(namespace="default", name="web")
        assert not flow.HasField("source_service")
        assert not flow.HasField("is_reply")
        assert (flow.Summary, flow.traffic_direction) == ("TCP", pb.TRAFFIC_DIRECTION_UNKNOWN)
        for field in ("ethernet", "tunnel", "interface"):
            assert not flow.HasField(field)
    assert (before.verdict, after.verdict) == (pb.TRACED, pb.TRANSLATED)
    assert (before.sock_xlate_point, before.event_type.sub_type) == (pb.SOCK_XLATE_POINT_PRE_DIRECTION_FWD, 1)
    assert (after.sock_xlate_point, after.event_type.sub_type) == (pb.SOCK_XLATE_POINT_POST_DIRECTION_FWD, 2)
    assert (before.IP.destination, before.l4.TCP.destination_port) == (WEB, 80)
    assert (after.IP.destination, after.l4.TCP.destination_port) == (ECHO, 8080)
    assert (before.destination.identity, before.destination.pod_name) == (9, "")
    assert (after.destination.identity, after.destination.pod_name) == (2222, "echo")


def test_a_datagram_that_comes_back_over_ipv6(world: World) -> None:
    told = socket_record(
        point=SockPoint.REVERSE,
        protocol=17,
        destination=ECHO6,
        destination_port=8080,
        translated=WEB6,
        translated_port=80,
        source_port=5353,
    )
    world.cluster.frontends.upsert(frontend(WEB6, 80, protocol="UDP"))
    world.names.refresh()
    before, after = world.flows(told)
    for flow in (before, after):
        assert (flow.IP.destination, flow.IP.ipVersion, flow.l4.UDP.destination_port) == (CLIENT6, pb.IPv6, 5353)
        assert (flow.destination.ID, flow.destination.identity) == (10, 1111)
        assert flow.source_service == pb.Service(namespace="default", name="web")
        assert not flow.HasField("destination_service")
        assert flow.Summary == "UDP"
    assert (before.sock_xlate_point, after.sock_xlate_point) == (3, 4)
    assert (before.IP.source, before.l4.UDP.source_port) == (ECHO6, 8080)
    assert (after.IP.source, after.l4.UDP.source_port) == (WEB6, 80)


def test_a_bound_socket_tells_its_own_address(world: World) -> None:
    before, _ = world.flows(socket_record(source="10.0.1.77", source_port=999))
    assert (before.IP.source, before.l4.TCP.source_port, before.source.ID) == ("10.0.1.77", 999, 10)


@pytest.mark.parametrize("anywhere", ["::", "0.0.0.0"])
def test_a_socket_bound_to_any_address_has_that_of_its_pod(world: World, anywhere: str) -> None:
    before, _ = world.flows(socket_record(source=anywhere, source_port=999))
    assert (before.IP.source, before.l4.TCP.source_port) == (CLIENT, 999)


def test_a_process_of_the_node(world: World) -> None:
    before, after = world.flows(socket_record(netns_cookie=HOST_COOKIE))
    assert (before.IP.source, before.IP.ipVersion) == ("", pb.IPv4)
    assert (before.source.identity, list(before.source.labels)) == (1, ["reserved:host"])
    assert after.destination.pod_name == "echo"


def test_a_process_that_nobody_knows(world: World) -> None:
    before, _ = world.flows(socket_record(netns_cookie=STRANGER_COOKIE, destination=NODE, destination_port=30080))
    assert (before.IP.source, before.source.identity, before.source.ID) == ("", 0, 0)
    assert (before.IP.destination, before.destination.identity) == (NODE, 1)
    assert before.destination_service.name == "web"


def test_a_pod_that_is_gone_is_still_named(world: World) -> None:
    world.cluster.endpoints.commit(deletes=[10])  # type: ignore[list-item]
    world.cluster.owners.commit(deletes=[10])  # type: ignore[list-item]
    world.names.refresh()
    before, _ = world.flows(socket_record())
    assert (before.source.pod_name, before.source.identity, before.IP.source) == ("client", 1111, CLIENT)


@pytest.mark.parametrize(("dual_stack", "worlds"), [(True, [9, 10]), (False, [2, 2])])
def test_behind_the_address_of_a_service_is_the_world(dual_stack: bool, worlds: list[int]) -> None:
    names = Names(Cluster().tables, dual_stack=dual_stack)
    rows = FlowRows(records(socket_record(), socket_record(**CONNECT6)), 0, names)
    assert rows.column("destination_identity")[::2].tolist() == worlds


def test_a_number_that_another_pod_got(world: World) -> None:
    """Numbers come again, cookies never."""
    world.cluster.endpoints.upsert(endpoint(10, "heir", "10.0.1.11", netns_cookie=STRANGER_COOKIE))
    world.names.refresh()
    old, new = (world.names.owner(cookie) for cookie in (CLIENT_COOKIE, STRANGER_COOKIE))
    assert (old.ipv4, new.ipv4) == (packed(ip_address(CLIENT)), packed(ip_address("10.0.1.11")))


def test_without_names_the_addresses_are_told(world: World) -> None:
    rows = FlowRows(socket_record(), 0)
    assert rows.column("destination").tolist() == world.rows(socket_record()).column("destination").tolist()
    assert rows.column("source").tolist() == [bytes(16), bytes(16)]


def test_packets_beside_sockets_stay_what_they_are(world: World) -> None:
    told = records(
        record(flags=EventFlags.EGRESS_DECIDED | EventFlags.INGRESS_DECIDED, source_mac="02:00:00:00:00:01"),
        socket_record(),
        record(type=EventType.DROP, reason=158, verdict=FlowVerdict.DROPPED, destination=WEB, destination_port=80),
    )
    alone = [flow for at in (0, 2) for flow in world.decoder.flows(FlowRows(told[at : at + 1], at, world.names))]
    together = world.decoder.flows(FlowRows(told, 0, world.names))
    assert [flow for flow in together if flow.Type == pb.L3_L4] == alone
    assert [flow.event_type.type for flow in together] == [5, 5, 4, 7, 7, 1]
    assert together[-1].destination_service.name == "web"
    assert told["point"].tolist() == [0, 1, 0], "the records themselves are not changed"


def test_uuids_and_numbers_of_flows(world: World) -> None:
    told = records(record(), socket_record(), socket_record(**REVERSE))
    rows = world.rows(told, first=1 << 36)
    uuids = [flow.uuid for flow in world.decoder.flows(rows)]
    assert [world.decoder.uuid_place(uuid) for uuid in uuids] == [
        (1 << 36, 2),
        *(((1 << 36) + at, kind) for at in (1, 2) for kind in (2, 3)),
    ]
    assert flows_in(told) == len(rows) == 5
    store = EventStore(10)
    store.append(told)
    assert (store.seen_flows, store.num_flows()) == (5, 5)


def test_parts_of_rows(world: World) -> None:
    rows = world.rows(records(record(), socket_record(), socket_record(**CONNECT6)))
    after = rows.where(rows.verdict == pb.TRANSLATED)
    assert len(after) == 2
    assert [flow.IP.destination for flow in world.decoder.flows(after)] == [ECHO, ECHO6]
    assert [flow.IP.destination for flow in world.decoder.flows(after.where(slice(1, 2)))] == [ECHO6]
    assert len(world.rows(np.empty(0, EVENT))) == 0


CONNECTS = [f"s1 {CLIENT}>{WEB}", f"s2 {CLIENT}>{ECHO}"]
BACK = [f"s3 {ECHO}>{CLIENT}", f"s4 {WEB}>{CLIENT}"]
NODES = [f"s1 >{NODE}", "s2 >10.0.2.30"]
PACKETS = [f"p4 {CLIENT}>{ECHO}", f"p1 {CLIENT}>{WEB}"]
REPLY = [f"p4 {WEB}>{CLIENT}"]
TRAFFIC = records(
    socket_record(),
    socket_record(**REVERSE),
    socket_record(netns_cookie=HOST_COOKIE, destination=NODE, destination_port=30080, translated=REMOTE),
    record(),
    record(
        type=EventType.DROP,
        reason=158,
        verdict=FlowVerdict.DROPPED,
        destination=WEB,
        destination_port=80,
        destination_endpoint=0,
    ),
    record(
        source=WEB,
        destination=CLIENT,
        source_port=80,
        destination_port=43210,
        source_endpoint=0,
        destination_endpoint=10,
    ),
)
EVERYTHING = CONNECTS + BACK + NODES + PACKETS + REPLY


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"destination_service": ["default/web"]}, [*CONNECTS, *NODES, PACKETS[1]]),
        ({"destination_service": ["we"]}, [*CONNECTS, *NODES, PACKETS[1]]),
        ({"destination_service": ["/web"]}, [*CONNECTS, *NODES, PACKETS[1]]),
        ({"destination_service": ["prod/web", "default/website"]}, []),
        ({"source_service": ["default/"]}, BACK + REPLY),
        ({"source_service": ["prod/"]}, []),
        ({"destination_service": ["web"], "verdict": ["TRANSLATED"]}, [CONNECTS[1], NODES[1]]),
        ({"event_type": [{"type": 7}]}, CONNECTS + BACK + NODES),
        ({"event_type": [{"type": 7, "match_sub_type": True, "sub_type": 2}]}, [CONNECTS[1], NODES[1]]),
        ({"event_type": [{"type": 7, "match_sub_type": True, "sub_type": 3}]}, BACK[:1]),
        ({"verdict": ["TRACED"]}, [CONNECTS[0], BACK[0], NODES[0]]),
        ({"source_pod": ["default/client"]}, CONNECTS + PACKETS),
        ({"destination_pod": ["client"], "event_type": [{"type": 7}]}, BACK),
        ({"destination_pod": ["default/echo"]}, [CONNECTS[1], PACKETS[0]]),
        ({"source_identity": [1111], "event_type": [{"type": 7}]}, CONNECTS),
        ({"source_label": ["reserved:host"]}, NODES),
        ({"destination_label": ["app=echo"], "event_type": [{"type": 7}]}, [CONNECTS[1]]),
        ({"destination_ip": [WEB]}, [CONNECTS[0], PACKETS[1]]),
        ({"destination_port": ["30080"]}, NODES[:1]),
        ({"destination_port": ["8080"], "event_type": [{"type": 7}]}, [CONNECTS[1], NODES[1]]),
        ({"ip_version": ["IPv6"]}, []),
        ({"source_ip_xlated": ["0.0.0.0/0"]}, []),
        ({"reply": [True]}, []),
        ({"traffic_direction": ["EGRESS", "INGRESS"]}, [*PACKETS, *REPLY]),
        ({"tcp_flags": [{"SYN": True}]}, PACKETS + REPLY),
        ({"drop_reason_desc": ["SERVICE_BACKEND_NOT_FOUND"]}, PACKETS[1:]),
    ],
)
def test_filters(world: World, fields: dict[str, Any], expected: list[str]) -> None:
    assert sorted(world.select(TRAFFIC, fields)) == sorted(expected)
    rest = [one for one in EVERYTHING if one not in expected]
    assert sorted(world.select(TRAFFIC, {}, fields)) == sorted(rest)


def test_services_that_come_while_somebody_follows(world: World) -> None:
    context = Context(world.names, "default/n1", world.decoder.uuid_place)
    filters = FilterSet([pb.FlowFilter(destination_service=["prod/late"])], [], context)
    told = record(destination="10.96.0.99", destination_port=99, destination_endpoint=0)
    assert len(filters.candidates(world.rows(told)).rows) == 0
    world.cluster.frontends.upsert(frontend("10.96.0.99", 99, "prod/late"))
    world.names.refresh()
    candidates = filters.candidates(world.rows(told))
    assert candidates.confirm(0, world.decoder.flows(candidates.rows)[0])


@pytest.mark.parametrize(
    ("fields", "shown", "xlated"),
    [
        ({"point": ObservationPoint.FROM_ENDPOINT}, f"; to {ECHO}:8080", ""),
        ({"point": ObservationPoint.FROM_NETWORK}, f"; to {ECHO}:8080", ""),
        ({"point": ObservationPoint.TO_NETWORK, "destination": WORLD, "translated": NODE}, "", NODE),
    ],
)
def test_packets_that_are_translated(world: World, fields: dict[str, Any], shown: str, xlated: str) -> None:
    """To a service: its address, its name, and where to. To the world: the address that the sender gets."""
    values = {"destination": WEB, "destination_port": 80, "destination_endpoint": 0, "destination_identity": 2}
    told = record(**{**values, "translated": ECHO, "translated_port": 8080, **fields})
    (flow,) = world.flows(told)
    assert flow.Summary == f"TCP Flags: SYN{shown}"
    assert (flow.IP.source, flow.IP.source_xlated) == (CLIENT, xlated)
    assert flow.destination_service.name == ("web" if shown else "")
    found = world.select(told, {"source_ip_xlated": ["0.0.0.0/0"]})
    assert bool(found) == bool(xlated)
    assert bool(world.select(told, {"destination_service": ["web"]})) == bool(shown)


def test_a_packet_to_a_service_over_ipv6(world: World) -> None:
    (flow,) = world.flows(
        record(
            point=ObservationPoint.FROM_ENDPOINT,
            source=CLIENT6,
            destination=WEB6,
            destination_port=80,
            translated=ECHO6,
            translated_port=8080,
        )
    )
    assert flow.Summary.endswith(f"; to [{ECHO6}]:8080")
    assert flow.destination_service.name == "web"
