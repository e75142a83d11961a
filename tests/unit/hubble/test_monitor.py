"""The lines of cilium-dbg monitor."""

import pytest
from unit.hubble.world import CLIENT6, ECHO6, Cluster, record, socket_record

from cilium.datapath.generated import DropReason, EventFlags, EventType, FlowVerdict, ObservationPoint
from cilium.hubble.flows import FlowDecoder
from cilium.hubble.monitor import chooser, line
from cilium.hubble.names import Names
from cilium.hubble.records import Records
from cilium.hubble.rows import FlowRows


def lines(records: Records) -> list[str]:
    names = Names(Cluster().tables)
    decoder = FlowDecoder(names, node_name="default/n1", instance=bytes(8))
    return [line(flow) for flow in decoder.flows(FlowRows(records, 0, names))]


DENIED = {"type": EventType.DROP, "reason": DropReason.POLICY_DENIED, "verdict": FlowVerdict.DROPPED}
SOCKET = "cgroup_id: 4711 sock_cookie: 77"
PACKET = "10.0.1.10:43210 -> 10.0.1.20:8080 tcp SYN"


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (record(), [f"-> endpoint 20, identity 1111->2222 state new ifindex lxc-client: {PACKET}"]),
        (
            record(point=ObservationPoint.FROM_NETWORK, ifindex=77, flags=0),
            [f"<- network, identity 1111->2222 state new ifindex 77: {PACKET}"],
        ),
        (
            record(source=CLIENT6, destination=ECHO6, protocol=17),
            [
                "-> endpoint 20, identity 1111->2222 state new ifindex lxc-client: "
                "[fd00::10]:43210 -> [fd00::20]:8080 udp"
            ],
        ),
        (
            record(protocol=1, source_port=3, destination_port=3),
            [
                "-> endpoint 20, identity 1111->2222 state new ifindex lxc-client: "
                "10.0.1.10 -> 10.0.1.20 icmpv4 DestinationUnreachable(Port)"
            ],
        ),
        (
            record(**DENIED, flags=EventFlags.INGRESS_DECIDED),
            [
                "Policy verdict log: local EP ID 20, remote ID 1111, proto tcp, ingress, action deny, match none, "
                + PACKET,
                f"xx drop (Policy denied) to endpoint 20, identity 1111->2222 ifindex lxc-client: {PACKET}",
            ],
        ),
        (
            record(flags=EventFlags.EGRESS_DECIDED, egress_cookie=7, egress_match=2)[:1],
            [
                "Policy verdict log: local EP ID 10, remote ID 2222, proto tcp, egress, action allow, match L3-L4, "
                "policy default/client-out, " + PACKET,
                f"-> endpoint 20, identity 1111->2222 state new ifindex lxc-client: {PACKET}",
            ],
        ),
        (
            socket_record(),
            [
                f"[pre-xlate-fwd] {SOCKET}, dst [10.96.0.80]:80 tcp, endpoint 10, service default/web",
                f"[post-xlate-fwd] {SOCKET}, dst [10.0.1.20]:8080 tcp, endpoint 10, service default/web",
            ],
        ),
        (
            socket_record(
                point=3, protocol=17, destination=ECHO6, destination_port=9, translated=CLIENT6, translated_port=53
            ),
            [
                f"[pre-xlate-rev] {SOCKET}, dst [fd00::20]:9 udp, endpoint 10",
                f"[post-xlate-rev] {SOCKET}, dst [fd00::10]:53 udp, endpoint 10",
            ],
        ),
        (record(protocol=47), ["-> endpoint 20, identity 1111->2222 state new ifindex lxc-client: "
                               "10.0.1.10 -> 10.0.1.20 Protocol 47"]),
    ],
)  # fmt: skip
def test_lines(records: Records, expected: list[str]) -> None:
    assert lines(records) == expected


def test_a_reason_without_a_name_is_told_by_its_number() -> None:
    assert "xx drop (reason 250)" in lines(record(type=EventType.DROP, reason=250, flags=0))[0]


def test_choice_by_endpoint() -> None:
    decoder = FlowDecoder(Names(Cluster().tables), node_name="default/n1", instance=bytes(8))
    (flow,) = decoder.flows(FlowRows(record(), 0))
    assert chooser()(flow)
    assert chooser(from_=10, to=20, related=20)(flow)
    assert not chooser(from_=20)(flow)
    assert not chooser(to=10)(flow)
    assert not chooser(related=30)(flow)
