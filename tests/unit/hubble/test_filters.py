"""FlowFilters: every field, AND within and OR between filters, whitelist and blacklist."""

from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import ParseDict
from unit.hubble.world import CLIENT6, ECHO6, REMOTE, WORLD, Cluster, pod, record, records

from cilium.api.proto.flow import flow_pb2 as pb
from cilium.datapath.generated import DropReason, EventFlags, EventType, FlowVerdict
from cilium.hubble.filter_fields import CHECKS, COLUMNS, Context
from cilium.hubble.filters import FilterError, FilterSet
from cilium.hubble.flows import FlowDecoder
from cilium.hubble.names import Names
from cilium.hubble.rows import FlowRows

KNOWN = EventFlags.REPLY_KNOWN
TRAFFIC = records(
    record(length=0),
    record(length=1, source=CLIENT6, destination=ECHO6, flags=KNOWN | EventFlags.REPLY, tcp_flags=0x12),
    record(length=2, protocol=17, source_port=53, destination_port=5353, ifindex=9, flags=KNOWN),
    record(length=3, source=WORLD, source_identity=2, source_endpoint=0, protocol=1, source_port=8, destination_port=0),
    record(
        length=4,
        type=EventType.DROP,
        reason=DropReason.POLICY_DENIED,
        verdict=FlowVerdict.DROPPED,
        flags=EventFlags.INGRESS_DECIDED,
        translated="192.0.2.77",
    ),
    record(length=5, source=REMOTE, source_identity=3333, source_endpoint=0, direction=1),
)
"""The drop (4) stands for two flows: a policy verdict, numbered 40, and the drop itself."""


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def world(cluster: Cluster) -> tuple[Context, FlowDecoder, Names]:
    names = Names(cluster.tables)
    decoder = FlowDecoder(names, node_name="default/n1", instance=bytes(8))
    return Context(names, "default/n1", decoder.uuid_place), decoder, names


def select(world: tuple[Context, FlowDecoder, Names], white: list[dict[str, Any]], black: list[Any] = []) -> list[int]:  # noqa: B006
    """Numbers of the flows that pass."""
    context, decoder, _ = world
    filters = FilterSet(
        [ParseDict(one, pb.FlowFilter()) for one in white], [ParseDict(one, pb.FlowFilter()) for one in black], context
    )
    candidates = filters.candidates(FlowRows(TRAFFIC, 0))
    numbers = candidates.rows.column("length").tolist()
    verdicts = (candidates.rows.event_type == 5).tolist()
    decoded = decoder.flows(candidates.rows)
    return [
        number * 10 if verdict else number
        for place, (number, verdict, flow) in enumerate(zip(numbers, verdicts, decoded, strict=True))
        if candidates.confirm(place, flow)
    ]


EVERYTHING = [0, 1, 2, 3, 40, 4, 5]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, EVERYTHING),
        ({"source_ip": ["10.0.1.10"]}, [0, 2, 40, 4]),
        ({"source_ip": ["10.0.0.0/8"]}, [0, 2, 40, 4, 5]),
        ({"source_ip": ["0.0.0.0/0"]}, [0, 2, 3, 40, 4, 5]),
        ({"source_ip": ["::/0"]}, [1]),
        ({"destination_ip": ["fd00::/64", "1.1.1.1"]}, [1]),
        ({"source_ip_xlated": ["192.0.2.77"]}, [40, 4]),
        ({"source_pod": ["default/cli"]}, [0, 1, 2, 40, 4]),
        ({"source_pod": ["cli"]}, [0, 1, 2, 40, 4]),
        ({"source_pod": ["prod/"]}, [5]),
        ({"source_pod": ["/remote"]}, [5]),
        ({"source_pod": ["remote"]}, []),
        ({"destination_pod": ["default/echo"], "protocol": ["udp"]}, [2]),
        ({"source_label": ["app=client"]}, [0, 1, 2, 40, 4]),
        ({"source_label": ["k8s:app in (remote, nobody)"]}, [5]),
        ({"source_label": ["reserved:world"]}, [3]),
        ({"source_label": ["!app"]}, [3]),
        ({"destination_label": ["tier=back,app!=echo"]}, []),
        ({"verdict": ["DROPPED"]}, [40, 4]),
        ({"event_type": [{"type": 4}]}, [0, 1, 2, 3, 5]),
        ({"event_type": [{"type": 1, "match_sub_type": True, "sub_type": 133}]}, [4]),
        ({"event_type": [{"type": 1, "match_sub_type": True, "sub_type": 181}]}, []),
        ({"event_type": [{"type": 5}, {"type": 1}]}, [40, 4]),
        ({"protocol": ["TCP"]}, [0, 1, 40, 4, 5]),
        ({"protocol": ["icmp"]}, [3]),
        ({"protocol": ["http"]}, []),
        ({"source_port": ["53"]}, [2]),
        ({"source_port": ["8"]}, []),
        ({"destination_port": ["8080", "5353"]}, [0, 1, 2, 40, 4, 5]),
        ({"reply": [True]}, [1]),
        ({"reply": [False]}, [0, 2, 3, 40, 5]),
        ({"source_identity": [2, 3333]}, [3, 5]),
        ({"destination_identity": [2222]}, EVERYTHING),
        ({"tcp_flags": [{"SYN": True}]}, [0, 1, 40, 4, 5]),
        ({"tcp_flags": [{"SYN": True, "ACK": True}]}, [1]),
        ({"node_name": ["n1"]}, EVERYTHING),
        ({"node_name": ["default/n*"]}, EVERYTHING),
        ({"node_name": ["other/n1", "n2"]}, []),
        ({"node_name": ["default/"]}, EVERYTHING),
        ({"ip_version": ["IPv6"]}, [1]),
        ({"traffic_direction": ["INGRESS"]}, [0, 1, 3, 40, 4, 5]),
        ({"traffic_direction": ["EGRESS"]}, [2]),
        ({"drop_reason_desc": ["POLICY_DENIED"]}, [40, 4]),
        ({"interface": [{"index": 9}]}, [2]),
        ({"interface": [{"name": "lxc-client"}]}, [0, 1, 3, 40, 4, 5]),
        ({"encrypted": [True]}, []),
        ({"encrypted": [False]}, EVERYTHING),
        ({"source_workload": [{"name": "client"}]}, [0, 1, 2, 40, 4]),
        ({"source_workload": [{"kind": "daemonset"}]}, []),
        ({"source_cluster_name": ["default"]}, [0, 1, 2, 40, 4]),
        ({"source_fqdn": ["*.example.com"]}, []),
        ({"destination_service": ["default/echo"]}, []),
        ({"http_method": ["GET"]}, []),
        ({"http_path": ["/.*"]}, []),
        ({"dns_query": ["."]}, []),
        ({"http_header": [{"key": "a", "value": "b"}]}, []),
        ({"trace_id": ["1"]}, []),
        ({"ip_trace_id": [1]}, []),
        ({"node_labels": ["zone=a"]}, []),
    ],
)
def test_one_filter(world: tuple[Context, FlowDecoder, Names], fields: dict[str, Any], expected: list[int]) -> None:
    assert select(world, [fields]) == expected
    everything_else = [number for number in EVERYTHING if number not in expected]
    assert select(world, [], [fields]) == everything_else


def test_every_field_is_known() -> None:
    fields = {field.name for field in pb.FlowFilter.DESCRIPTOR.fields}
    assert fields - set(COLUMNS) - set(CHECKS) == {"experimental"}


def test_uuid(world: tuple[Context, FlowDecoder, Names]) -> None:
    decoded = world[1].flows(FlowRows(TRAFFIC, 0))
    assert select(world, [{"uuid": [decoded[4].uuid, "ffffffff-ffff-4fff-8fff-ffffffffffff"]}]) == [40]


def test_filters_of_a_list_are_alternatives(world: tuple[Context, FlowDecoder, Names]) -> None:
    assert select(world, [{"source_pod": ["prod/"]}, {"protocol": ["udp"]}]) == [2, 5]
    assert select(world, [], [{"source_pod": ["prod/"]}, {"protocol": ["udp"]}]) == [0, 1, 3, 40, 4]


def test_the_blacklist_wins(world: tuple[Context, FlowDecoder, Names]) -> None:
    assert select(world, [{"verdict": ["DROPPED"]}], [{"event_type": [{"type": 5}]}]) == [4]


def test_a_blacklisted_field_that_needs_decoding_excludes_only_what_it_means(
    world: tuple[Context, FlowDecoder, Names],
) -> None:
    assert select(world, [{"protocol": ["tcp"]}], [{"source_workload": [{"name": "client"}]}]) == [5]


def test_pods_that_appear_later_are_found(cluster: Cluster, world: tuple[Context, FlowDecoder, Names]) -> None:
    context, decoder, names = world
    filters = FilterSet([pb.FlowFilter(source_pod=["default/late"])], [], context)
    rows = FlowRows(record(source="10.0.1.99", source_endpoint=0), 0)
    assert len(filters.candidates(rows).rows) == 0
    cluster.pods.commit(upserts=[pod("late", "10.0.1.99", "late")])
    names.refresh()
    candidates = filters.candidates(rows)
    assert candidates.confirm(0, decoder.flows(candidates.rows)[0])


def test_no_records_are_no_trouble(world: tuple[Context, FlowDecoder, Names]) -> None:
    everything = ParseDict({"source_ip": ["1.1.1.1"], "interface": [{"index": 1}]}, pb.FlowFilter())
    filters = FilterSet([everything], [everything], world[0])
    assert len(filters.candidates(FlowRows(np.empty(0, TRAFFIC.dtype), 0)).rows) == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source_ip": ["10.0.0"]}, r"whitelist\[0\]\.source_ip: '10.0.0'"),
        ({"source_port": ["http"]}, r"source_port: 'http' is no port"),
        ({"destination_port": ["70000"]}, "a number up to 65535"),
        ({"protocol": ["tpc"]}, "no known protocol: give one of tcp, udp"),
        ({"source_label": ["a=(b"]}, "label selector 'a=\\(b': cannot read"),
        ({"source_label": [""]}, "label selector is empty"),
        ({"http_path": ["["]}, "http_path"),
        ({"experimental": {"cel_expression": ["true"]}}, "experimental: not supported"),
    ],
)
def test_bad_filters_say_which_field_and_why(
    world: tuple[Context, FlowDecoder, Names], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(FilterError, match=message):
        select(world, [fields])
