"""Records as flows: expansion, direction, verdicts, the policies that decided, names."""

from ipaddress import ip_address, ip_network

import pytest
from unit.hubble.world import CLIENT, CLIENT6, ECHO6, NOW, REMOTE, WORLD, Cluster, pod, record

from cilium.api.proto.flow import flow_pb2 as pb
from cilium.datapath.generated import (
    DropReason,
    EventFlags,
    EventType,
    FlowDirection,
    FlowVerdict,
    ObservationPoint,
    TraceReason,
)
from cilium.hubble.addresses import packed
from cilium.hubble.flows import FlowDecoder
from cilium.hubble.names import Names
from cilium.hubble.records import Event, Records
from cilium.hubble.rows import FlowRows
from cilium.tables.ipcache import IPCacheEntry
from cilium.tables.rules import AUDITED_DEFAULT_DENY, RuleReference

EGRESS, INGRESS = EventFlags.EGRESS_DECIDED, EventFlags.INGRESS_DECIDED
LOCAL, REPLY, KNOWN = EventFlags.LOCAL, EventFlags.REPLY, EventFlags.REPLY_KNOWN
CLOSED = RuleReference(0, "CiliumNetworkPolicy", "default", "closed", "ingress", 0)

TRIED = RuleReference(0, "CiliumNetworkPolicy", "default", "tried", "ingress", 0)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def names(cluster: Cluster) -> Names:
    def default_deny(endpoint: int, _: object, audited: bool) -> list[RuleReference]:
        return [CLOSED, TRIED][: 1 + audited] if endpoint == 20 else []

    return Names(cluster.tables, default_deny=default_deny)


@pytest.fixture
def decoder(names: Names) -> FlowDecoder:
    return FlowDecoder(names, node_name="default/n1", instance=bytes(range(8)))


def flows(decoder: FlowDecoder, records: Records, first: int = 0) -> list[pb.Flow]:
    return decoder.flows(FlowRows(records, first))


def test_the_tuple_has_the_fields_of_the_record() -> None:
    assert Event._fields == record().dtype.names


def test_a_packet_between_two_pods_of_this_node(decoder: FlowDecoder) -> None:
    both = LOCAL | KNOWN | EGRESS | INGRESS
    out, into, seen = flows(
        decoder, record(flags=both, egress_cookie=7, ingress_cookie=8, egress_match=2, ingress_match=1)
    )
    assert [flow.event_type.type for flow in (out, into, seen)] == [5, 5, 4]
    assert [flow.traffic_direction for flow in (out, into, seen)] == [pb.EGRESS, pb.INGRESS, pb.INGRESS]
    assert {flow.verdict for flow in (out, into, seen)} == {pb.FORWARDED}
    assert (out.policy_match_type, into.policy_match_type) == (2, 1)
    assert [policy.name for policy in out.egress_allowed_by] == ["client-out"]
    assert [policy.name for policy in into.ingress_allowed_by] == ["echo-in"]
    assert not into.egress_allowed_by
    assert not out.ingress_allowed_by
    assert seen.trace_observation_point == pb.TO_ENDPOINT == 101
    assert (seen.event_type.sub_type, seen.trace_reason) == (0, pb.NEW)
    assert seen.egress_allowed_by[0].name == "client-out"
    assert seen.ingress_allowed_by[0].name == "echo-in"
    assert seen.HasField("is_reply")
    assert not seen.is_reply.value


def test_everything_the_packet_says(decoder: FlowDecoder) -> None:
    (flow,) = flows(
        decoder,
        record(
            time=NOW + 5,
            tcp_flags=0x12,
            source_mac="02:00:00:00:00:01",
            destination_mac="02:00:00:00:00:02",
            translated="192.0.2.9",
            tunnel_vni=1111,
        ),
    )
    assert (flow.time.seconds, flow.time.nanos) == (NOW // 10**9, 5)
    assert (flow.IP.source, flow.IP.destination, flow.IP.ipVersion) == (CLIENT, "10.0.1.20", pb.IPv4)
    assert flow.IP.source_xlated == "192.0.2.9"
    assert (flow.l4.TCP.source_port, flow.l4.TCP.destination_port) == (43210, 8080)
    assert flow.l4.TCP.flags == pb.TCPFlags(SYN=True, ACK=True)
    assert flow.Summary == "TCP Flags: SYN, ACK"
    assert flow.ethernet == pb.Ethernet(source="02:00:00:00:00:01", destination="02:00:00:00:00:02")
    assert flow.interface == pb.NetworkInterface(index=5, name="lxc-client")
    assert (flow.tunnel.protocol, flow.tunnel.vni) == (pb.Tunnel.VXLAN, 1111)
    assert (flow.Type, flow.node_name) == (pb.L3_L4, "default/n1")
    assert flow.source == pb.Endpoint(
        ID=10,
        identity=1111,
        namespace="default",
        pod_name="client",
        labels=["k8s:app=client", "k8s:io.cilium.k8s.policy.cluster=default"],
        workloads=[pb.Workload(name="client", kind="Deployment")],
        cluster_name="default",
    )


def test_ipv6_and_icmp(decoder: FlowDecoder) -> None:
    (flow,) = flows(
        decoder,
        record(source=CLIENT6, destination=ECHO6, protocol=58, source_port=128, destination_port=0, tcp_flags=0),
    )
    assert (flow.IP.source, flow.IP.ipVersion) == (CLIENT6, pb.IPv6)
    assert flow.l4.ICMPv6 == pb.ICMPv6(type=128)
    assert flow.Summary == "ICMPv6 EchoRequest"


@pytest.mark.parametrize(
    ("protocol", "field"), [(17, "UDP"), (132, "SCTP"), (1, "ICMPv4"), (2, "IGMP"), (112, "VRRP"), (47, None)]
)
def test_protocols(decoder: FlowDecoder, protocol: int, field: str | None) -> None:
    (flow,) = flows(decoder, record(protocol=protocol))
    assert flow.l4.WhichOneof("protocol") == field


def test_default_deny_of_the_receiver(decoder: FlowDecoder) -> None:
    out, into, dropped = flows(
        decoder,
        record(
            type=EventType.DROP,
            reason=DropReason.POLICY_DENIED,
            verdict=FlowVerdict.DROPPED,
            flags=LOCAL | EGRESS | INGRESS,
            egress_cookie=7,
        ),
    )
    assert [flow.verdict for flow in (out, into, dropped)] == [pb.FORWARDED, pb.DROPPED, pb.DROPPED]
    assert out.drop_reason_desc == pb.DROP_REASON_UNKNOWN
    assert into.drop_reason_desc == dropped.drop_reason_desc == pb.POLICY_DENIED
    assert dropped.event_type == pb.CiliumEventType(type=1, sub_type=133)
    assert dropped.drop_reason == 133
    assert dropped.traffic_direction == pb.INGRESS
    assert [policy.name for policy in into.ingress_denied_by] == ["closed"]
    assert [policy.name for policy in dropped.ingress_denied_by] == ["closed"]
    assert [policy.name for policy in dropped.egress_allowed_by] == ["client-out"]
    assert not dropped.HasField("is_reply")


def test_a_policy_says_which_of_its_rules_it_was_and_since_when(decoder: FlowDecoder) -> None:
    *_, dropped = flows(
        decoder, record(type=EventType.DROP, reason=DropReason.POLICY_DENY, flags=INGRESS, ingress_cookie=9)
    )
    (named,) = dropped.ingress_denied_by
    assert (named.kind, named.namespace, named.name, named.revision) == (
        "CiliumNetworkPolicy", "default", "echo-shut", 5
    )  # fmt: skip
    assert list(named.labels) == [
        "x",
        "k8s:io.cilium.k8s.policy.derived-from=CiliumNetworkPolicy",
        "k8s:io.cilium.k8s.policy.name=echo-shut",
        "k8s:io.cilium.k8s.policy.namespace=default",
        "k8s:io.cilium.k8s.policy.rule=specs[2].ingressDeny[1]",
    ]


def test_a_deny_rule_is_named(decoder: FlowDecoder) -> None:
    *_, dropped = flows(
        decoder,
        record(
            type=EventType.DROP,
            reason=DropReason.POLICY_DENY,
            verdict=FlowVerdict.DROPPED,
            flags=INGRESS,
            ingress_cookie=9,
        ),
    )
    assert [policy.name for policy in dropped.ingress_denied_by] == ["echo-shut"]
    assert list(dropped.policy_log) == ["shut"]
    assert not dropped.ingress_allowed_by


def test_egress_refused_before_ingress_was_asked(decoder: FlowDecoder) -> None:
    verdict, dropped = flows(
        decoder,
        record(type=EventType.DROP, reason=DropReason.POLICY_DENIED, verdict=FlowVerdict.DROPPED, flags=EGRESS),
    )
    assert (verdict.verdict, verdict.traffic_direction) == (pb.DROPPED, pb.EGRESS)
    assert dropped.traffic_direction == pb.EGRESS


def test_a_drop_for_another_reason_leaves_the_policy_verdicts_alone(decoder: FlowDecoder) -> None:
    verdict, dropped = flows(
        decoder,
        record(
            type=EventType.DROP,
            reason=DropReason.FIB_LOOKUP_FAILED,
            verdict=FlowVerdict.DROPPED,
            flags=EGRESS,
            egress_cookie=7,
        ),
    )
    assert (verdict.verdict, verdict.drop_reason_desc) == (pb.FORWARDED, pb.DROP_REASON_UNKNOWN)
    assert (dropped.verdict, dropped.drop_reason_desc) == (pb.DROPPED, pb.FIB_LOOKUP_FAILED)
    assert dropped.egress_allowed_by[0].name == "client-out"
    assert dropped.traffic_direction == pb.EGRESS


def test_audit_mode(decoder: FlowDecoder) -> None:
    out, into, seen = flows(
        decoder,
        record(
            verdict=FlowVerdict.AUDITED,
            flags=LOCAL | KNOWN | EGRESS | INGRESS | EventFlags.INGRESS_AUDITED,
            egress_cookie=7,
        ),
    )
    assert [flow.verdict for flow in (out, into, seen)] == [pb.FORWARDED, pb.AUDIT, pb.AUDIT]
    assert [policy.name for policy in into.ingress_denied_by] == ["closed"]
    assert [policy.name for policy in seen.egress_allowed_by] == ["client-out"]


def test_audit_of_a_rule_is_of_its_direction(decoder: FlowDecoder) -> None:
    audited = LOCAL | KNOWN | EGRESS | INGRESS | EventFlags.EGRESS_AUDITED
    out, into, seen = flows(
        decoder, record(verdict=FlowVerdict.AUDITED, flags=audited, egress_cookie=9, ingress_cookie=8)
    )
    assert [flow.verdict for flow in (out, into, seen)] == [pb.AUDIT, pb.FORWARDED, pb.AUDIT]
    assert [policy.name for policy in out.egress_denied_by] == ["echo-shut"]
    assert [policy.name for policy in into.ingress_allowed_by] == ["echo-in"]
    assert [policy.name for policy in seen.egress_denied_by] == ["echo-shut"]


def test_default_deny_in_audit_mode_names_the_policies_that_would_close(decoder: FlowDecoder) -> None:
    out, seen = flows(
        decoder,
        record(
            verdict=FlowVerdict.AUDITED,
            flags=KNOWN | INGRESS | EventFlags.INGRESS_AUDITED,
            ingress_cookie=AUDITED_DEFAULT_DENY,
        ),
    )
    assert (out.verdict, seen.verdict) == (pb.AUDIT, pb.AUDIT)
    assert [policy.name for policy in seen.ingress_denied_by] == ["closed", "tried"]


def test_an_established_connection_still_knows_its_policies(decoder: FlowDecoder) -> None:
    (flow,) = flows(decoder, record(reason=TraceReason.ESTABLISHED, egress_cookie=7, ingress_cookie=8, tcp_flags=0x10))
    assert flow.egress_allowed_by[0].name == "client-out"
    assert flow.ingress_allowed_by[0].name == "echo-in"
    assert flow.trace_reason == pb.ESTABLISHED


@pytest.mark.parametrize(
    ("hook", "point", "flags", "expected"),
    [
        (FlowDirection.EGRESS, ObservationPoint.TO_ENDPOINT, LOCAL, pb.INGRESS),
        (FlowDirection.EGRESS, ObservationPoint.TO_ENDPOINT, LOCAL | REPLY, pb.EGRESS),
        (FlowDirection.EGRESS, ObservationPoint.TO_OVERLAY, 0, pb.EGRESS),
        (FlowDirection.EGRESS, ObservationPoint.TO_OVERLAY, REPLY, pb.INGRESS),
        (FlowDirection.INGRESS, ObservationPoint.TO_ENDPOINT, 0, pb.INGRESS),
        (FlowDirection.INGRESS, ObservationPoint.TO_ENDPOINT, REPLY, pb.EGRESS),
        (FlowDirection.UNKNOWN, ObservationPoint.TO_STACK, REPLY, pb.TRAFFIC_DIRECTION_UNKNOWN),
    ],
)
def test_direction_is_that_of_the_connection(
    decoder: FlowDecoder, hook: FlowDirection, point: ObservationPoint, flags: int, expected: int
) -> None:
    (flow,) = flows(decoder, record(direction=hook, point=point, flags=flags | KNOWN))
    assert flow.traffic_direction == expected
    assert flow.is_reply.value == bool(flags & REPLY)


def test_names_of_pods_elsewhere_and_of_the_world(decoder: FlowDecoder) -> None:
    (flow,) = flows(
        decoder,
        record(source=REMOTE, source_identity=3333, source_endpoint=0, destination=WORLD, destination_identity=2),
    )
    assert (flow.source.namespace, flow.source.pod_name) == ("prod", "remote")
    assert flow.destination.labels == ["reserved:world"]


def test_an_unresolved_identity_comes_from_the_ipcache(cluster: Cluster, decoder: FlowDecoder) -> None:
    cluster.ipcache.commit(upserts=[IPCacheEntry(prefix=ip_network("192.0.2.1/32"), identity=16777217)])  # type: ignore[arg-type]
    (flow,) = flows(decoder, record(source=WORLD, source_identity=0, source_endpoint=0))
    assert flow.source.identity == 16777217


def test_gone_pods_keep_their_names_until_the_address_is_given_away(
    cluster: Cluster, names: Names, decoder: FlowDecoder
) -> None:
    cluster.endpoints.commit(deletes=[10])  # type: ignore[list-item]
    cluster.pods.commit(deletes=["default/client"])
    cluster.identities.commit(deletes=[1111])  # type: ignore[list-item]
    names.refresh()
    (flow,) = flows(decoder, record(source_endpoint=0))
    assert (flow.source.pod_name, flow.source.labels[0]) == ("client", "k8s:app=client")
    assert names.addresses(lambda namespace, name: name == "client") != []

    cluster.pods.commit(upserts=[pod("heir", CLIENT, "heir")])
    names.refresh()
    (flow,) = flows(decoder, record(source_endpoint=0))
    assert flow.source.pod_name == "heir"
    (flow,) = flows(decoder, record(source_endpoint=10))
    assert flow.source.pod_name == "client"


def test_a_finished_pod_gives_its_address_away(cluster: Cluster, names: Names) -> None:
    cluster.pods.commit(upserts=[pod("job", "10.0.1.77", "job", phase="Running")])
    names.refresh()
    cluster.pods.commit(upserts=[pod("job", "10.0.1.77", "job", phase="Succeeded"), pod("next", "10.0.1.77", "next")])
    names.refresh()
    assert names.party(packed(ip_address("10.0.1.77")), 0, 9).pod == "next"


def test_a_host_network_pod_does_not_take_the_nodes_address(cluster: Cluster, names: Names) -> None:
    cluster.pods.commit(upserts=[pod("agent", "172.18.0.2", "cilium", "kube-system", host_network=True)])
    names.refresh()
    assert names.addresses(lambda _, name: name == "agent") == []
    assert names.party(packed(ip_address("172.18.0.2")), 0, 1).pod == ""


def test_uuids_are_stable_and_lead_back(decoder: FlowDecoder) -> None:
    both = LOCAL | KNOWN | EGRESS | INGRESS
    again = [flows(decoder, record(flags=both), first=1 << 36) for _ in range(2)]
    uuids = [flow.uuid for flow in again[0]]
    assert uuids == [flow.uuid for flow in again[1]]
    assert len(set(uuids)) == 3
    assert [decoder.uuid_place(uuid) for uuid in uuids] == [(1 << 36, 0), (1 << 36, 1), (1 << 36, 2)]
    assert decoder.uuid_place("31323334-3536-8373-8800-000000007ffe") is None
    assert decoder.uuid_place("not a uuid") is None


def test_unknown_numbers_do_not_break_a_flow(decoder: FlowDecoder) -> None:
    dropped, traced = flows(
        decoder, record(type=EventType.DROP, reason=250, verdict=FlowVerdict.DROPPED, flags=0)
    ) + flows(decoder, record(reason=99, point=77))
    assert (dropped.drop_reason, dropped.drop_reason_desc) == (250, pb.DROP_REASON_UNKNOWN)
    assert traced.trace_observation_point == 77
