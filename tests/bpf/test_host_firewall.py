"""The host firewall: at every hook, what reaches the node and what it sends is judged by the policies of its row."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from bpf.balanced import ANY, Services
from bpf.harness import OK, REDIRECT, SHOT, Datapath, encoded
from bpf.packets import CLIENT, FAMILIES, NODE, REMOTE, WORLD, echo, ip, tcp, udp
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6ND_NS, IPv6
from scapy.packet import Packet, Raw

from cilium.datapath.generated.enums import (
    DropReason,
    EndpointFlags,
    FlowVerdict,
    RoutingMode,
    ServiceScope,
    VerdictFlags,
)

EGRESS, INGRESS = 5, 7
TCP, UDP_ = 6, 17
ROUTER = {4: "10.0.0.254", 6: "fd00::fe"}
OTHER_NODE = {4: "172.18.0.3", 6: "fd12::3"}
LINK_LOCAL = {4: "169.254.7.7", 6: "fe80::7"}
EVERYBODY = {4: "224.0.0.251", 6: "ff02::fb"}
HOST = 65535
DENIED = DropReason.POLICY_DENIED


@pytest.fixture(params=FAMILIES)
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def guarded(make_datapath: Callable[..., Datapath]) -> Callable[..., Datapath]:
    """A node with policies on its rows, a pod and another node."""

    def make(*, egress: int = 0, ingress: int = 0, flags: int = 0, **constants: Any) -> Datapath:
        routers = {f"router{number}": ip_address(address) for number, address in ROUTER.items()}
        datapath = make_datapath(**{"host_firewall": 1, **routers, **constants})
        for address in (*NODE.values(), *ROUTER.values()):
            datapath.endpoint(
                address, 1, id=HOST, ifindex=0, flags=EndpointFlags.HOST | flags,
                ingress_policy=ingress, egress_policy=egress,
            )  # fmt: skip
        for number, bits in ((4, 32), (6, 128)):
            datapath.endpoint(CLIENT[number], 1000, id=11)
            datapath.ipcache(f"{OTHER_NODE[number]}/{bits}", 6)
            datapath.ipcache(f"{REMOTE[number]}/{bits}", 3000, tunnel=OTHER_NODE[number])
        return datapath

    return make


def allow(datapath: Datapath, policy: int, identity: int, port: int = 80, protocol: int = TCP) -> None:
    datapath.rule(policy, identity, policy * 1000 + identity, protocol=protocol, port=port)


def world(version: int) -> int:
    return 9 if version == 4 else 10


# ------------------------------------------------------------------------------------------ where it is judged


@pytest.mark.parametrize("services", [0, 1])
@pytest.mark.parametrize(("peer", "identity"), [(WORLD, 0), (OTHER_NODE, 6), (REMOTE, 3000)])
def test_from_the_network(guarded, version: int, peer: dict[int, str], identity: int, services: int) -> None:
    """World, other nodes and, routed natively, their pods."""
    datapath = guarded(ingress=INGRESS, services=services, routing_mode=RoutingMode.NATIVE)
    ask = tcp(peer[version], NODE[version])
    outcome = datapath.run("from_netdev", ask)
    assert (outcome.verdict, outcome.drop) == (SHOT, DENIED)
    (event,) = outcome.events
    assert (event["destination_endpoint"], event["destination_identity"]) == (HOST, 1)
    allow(datapath, INGRESS, identity or world(version))
    assert datapath.run("from_netdev", ask).verdict == OK
    assert datapath.run("from_netdev", tcp(peer[version], NODE[version], dport=81)).drop == DENIED
    answer = tcp(NODE[version], peer[version], 80, 40000, "SA")
    assert datapath.run("to_netdev", answer).verdict == OK
    assert len(datapath.connections()) == 1


def test_replies_pass_where_the_other_direction_is_closed(guarded, version: int) -> None:
    datapath = guarded(ingress=INGRESS, egress=EGRESS)
    allow(datapath, INGRESS, world(version))
    allow(datapath, EGRESS, 6, port=6443)
    datapath.run("from_netdev", tcp(WORLD[version], NODE[version]))
    assert datapath.run("to_netdev", tcp(NODE[version], WORLD[version], 80, 40000, "SA")).verdict == OK
    assert datapath.run("to_netdev", tcp(NODE[version], OTHER_NODE[version], 50000, 6443)).verdict == OK
    assert datapath.run("from_netdev", tcp(OTHER_NODE[version], NODE[version], 6443, 50000, "SA")).verdict == OK
    stranger = tcp(OTHER_NODE[version], NODE[version], 6443, 50001, "SA")
    assert datapath.run("from_netdev", stranger).drop == DENIED, "nobody asked that"


@pytest.mark.parametrize(("peer", "identity"), [(WORLD, 0), (OTHER_NODE, 6), (REMOTE, 3000)])
def test_to_the_network(guarded, version: int, peer: dict[int, str], identity: int) -> None:
    datapath = guarded(egress=EGRESS)
    ask = tcp(NODE[version], peer[version])
    outcome = datapath.run("to_netdev", ask)
    assert outcome.drop == DENIED
    assert (outcome.events[0]["source_endpoint"], outcome.events[0]["source_identity"]) == (HOST, 1)
    allow(datapath, EGRESS, identity or world(version))
    assert datapath.run("to_netdev", ask).verdict == OK
    assert datapath.run("from_netdev", tcp(WORLD[version], NODE[version], dport=22)).verdict == OK, "ingress is open"


def test_a_pod_of_this_node_asks_the_node(guarded, version: int) -> None:
    datapath = guarded(ingress=INGRESS)
    ask = tcp(CLIENT[version], NODE[version])
    assert datapath.run("from_lxc", ask).drop == DENIED
    allow(datapath, INGRESS, 1000)
    assert datapath.run("from_lxc", ask).verdict == OK
    assert datapath.run("to_lxc", tcp(NODE[version], CLIENT[version], 80, 40000, "SA")).verdict == OK


def test_the_node_asks_a_pod_of_its_own(guarded, version: int) -> None:
    datapath = guarded(egress=EGRESS)
    ask = tcp(NODE[version], CLIENT[version])
    assert datapath.run("to_lxc", ask).drop == DENIED
    allow(datapath, EGRESS, 1000)
    assert datapath.run("to_lxc", ask).verdict == OK
    assert datapath.run("from_lxc", tcp(CLIENT[version], NODE[version], 80, 40000, "SA")).verdict == OK


def test_through_the_tunnel(guarded, version: int) -> None:
    datapath = guarded(egress=EGRESS, ingress=INGRESS, tunnel_ifindex=9)
    ask = tcp(ROUTER[version], REMOTE[version])
    assert datapath.run("from_host", ask).drop == DENIED
    allow(datapath, EGRESS, 3000)
    assert datapath.run("from_host", ask).verdict == REDIRECT


def test_a_backend_of_a_node_port_is_judged_as_backend(guarded, version: int) -> None:
    datapath = guarded(ingress=INGRESS, services=1)
    Services(datapath).put(ANY[version], 30080, (NODE[version], 8080), scope=ServiceScope.EXTERNAL)
    ask = tcp(WORLD[version], NODE[version], dport=30080)
    assert datapath.run("from_netdev", ask).drop == DENIED
    allow(datapath, INGRESS, world(version), port=8080)
    outcome = datapath.run("from_netdev", ask)
    assert (outcome.verdict, outcome.packet.dport) == (OK, 8080)
    answer = datapath.run("to_netdev", tcp(NODE[version], WORLD[version], 8080, 40000, "SA"))
    assert (answer.verdict, answer.packet.sport) == (OK, 30080)


@pytest.mark.parametrize("destination", [LINK_LOCAL, EVERYBODY])
def test_addresses_that_no_row_names(guarded, version: int, destination: dict[int, str]) -> None:
    datapath = guarded(ingress=INGRESS)
    ask = udp(WORLD[version], destination[version], dport=5353)
    assert datapath.run("from_netdev", ask).drop == DENIED
    allow(datapath, INGRESS, world(version), port=5353, protocol=UDP_)
    assert datapath.run("from_netdev", ask).verdict == OK


def test_a_pod_speaks_to_everybody_on_its_link(guarded, version: int) -> None:
    datapath = guarded(ingress=INGRESS)
    ask = udp(CLIENT[version], EVERYBODY[version], dport=5353)
    assert datapath.run("from_lxc", ask).drop == DENIED
    allow(datapath, INGRESS, 1000, port=5353, protocol=UDP_)
    assert datapath.run("from_lxc", ask).verdict == OK


def test_a_pod_asks_the_link_local_address_of_the_node(guarded) -> None:
    datapath = guarded(ingress=INGRESS)
    assert datapath.run("from_lxc", udp(CLIENT[6], LINK_LOCAL[6])).drop == DENIED


@pytest.mark.parametrize("source", [CLIENT, ROUTER])
def test_nobody_outside_has_an_address_of_this_node(guarded, version: int, source: dict[int, str]) -> None:
    datapath = guarded(ingress=INGRESS)
    datapath.rule(INGRESS, 0, 1)
    assert datapath.run("from_netdev", tcp(source[version], NODE[version])).drop == DropReason.INVALID_SOURCE_IP


def test_a_family_that_is_off_is_judged_all_the_same(guarded, version: int) -> None:
    datapath = guarded(ingress=INGRESS, egress=EGRESS, **{f"enable_ipv{version}": 0})
    assert datapath.run("from_netdev", tcp(WORLD[version], NODE[version])).drop == DENIED
    assert datapath.run("to_netdev", tcp(NODE[version], WORLD[version])).drop == DENIED


def test_what_cannot_be_read_is_closed_with_the_direction(guarded) -> None:
    fragment = ip(WORLD[4], NODE[4], frag=10, proto=UDP_) / Raw(b"rest")
    assert guarded(egress=EGRESS).run("from_netdev", fragment).verdict == OK
    closed = guarded(ingress=INGRESS)
    assert closed.run("from_netdev", fragment).drop == DropReason.FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND
    allow(closed, INGRESS, 9, port=53, protocol=UDP_)
    first = ip(WORLD[4], NODE[4], flags="MF", id=4) / UDP(sport=999, dport=53, chksum=0) / Raw(b"a" * 16)
    later = ip(WORLD[4], NODE[4], frag=3, id=4, proto=UDP_) / Raw(b"rest")
    assert [closed.run("from_netdev", packet).verdict for packet in (first, later)] == [OK, OK]


# ------------------------------------------------------------------------------------------ what passes always


def unreachable(source: str, destination: str) -> Packet:
    """Something on the way says so about a packet that `destination` sent."""
    if ":" in source:
        quoted = IPv6(src=destination, dst=WORLD[6]) / UDP(sport=5, dport=6)
        return ip(source, destination) / ICMPv6DestUnreach() / quoted
    return ip(source, destination) / ICMP(type=3, code=4) / IP(src=destination, dst=WORLD[4]) / UDP(sport=5, dport=6)


def test_icmp_errors_pass_and_echo_is_judged(guarded, version: int) -> None:
    datapath = guarded(ingress=INGRESS, egress=EGRESS)
    assert datapath.run("from_netdev", unreachable(WORLD[version], NODE[version])).verdict == OK
    assert datapath.run("to_netdev", unreachable(NODE[version], WORLD[version])).verdict == OK
    assert datapath.run("to_lxc", unreachable(ROUTER[version], CLIENT[version])).verdict == OK
    assert datapath.run("from_lxc", unreachable(CLIENT[version], NODE[version])).verdict == OK
    assert datapath.run("from_netdev", echo(WORLD[version], NODE[version])).drop == DENIED
    datapath.endpoint(CLIENT[version], 1000, id=11, egress_policy=9)
    assert datapath.run("from_lxc", unreachable(CLIENT[version], NODE[version])).drop == DENIED, "the pod's own policy"


def test_what_a_link_needs_passes(guarded) -> None:
    datapath = guarded(ingress=INGRESS, egress=EGRESS)
    solicitation = ip("fe80::1", "ff02::1:ff00:2", hlim=255) / ICMPv6ND_NS(tgt=NODE[6])
    assert datapath.run("from_netdev", solicitation).verdict == OK
    assert (
        datapath.run("to_netdev", ip("fe80::2", "ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt="fe80::1")).verdict == OK
    )
    from_afar = ip("fe80::1", "ff02::1:ff00:2", hlim=64) / ICMPv6ND_NS(tgt=NODE[6])
    assert datapath.run("from_netdev", from_afar).drop == DENIED
    assert datapath.run("from_netdev", udp(WORLD[4], NODE[4], 67, 68)).verdict == OK
    assert datapath.run("to_netdev", udp("0.0.0.0", "255.255.255.255", 68, 67)).verdict == OK
    assert datapath.run("from_netdev", udp("fe80::1", LINK_LOCAL[6], 547, 546)).verdict == OK
    assert datapath.run("to_netdev", udp(LINK_LOCAL[6], "ff02::1:2", 546, 547)).verdict == OK
    assert datapath.run("from_netdev", udp(WORLD[4], NODE[4], 68, 67)).drop == DENIED, "who wants to be served"


def test_the_tunnel_between_known_nodes_passes(guarded, version: int) -> None:
    datapath = guarded(ingress=INGRESS, egress=EGRESS, services=1)
    other, node = OTHER_NODE[version], NODE[version]
    assert datapath.run("from_netdev", udp(other, node, dport=8472)).verdict == OK
    assert datapath.run("to_netdev", udp(node, other, dport=8472)).verdict == OK
    assert datapath.run("from_netdev", udp(WORLD[version], node, dport=8472)).drop == DENIED
    assert datapath.run("to_netdev", udp(node, WORLD[version], dport=8472)).drop == DENIED


def test_what_is_forwarded_is_not_the_nodes(guarded, version: int) -> None:
    """Masqueraded pods, their replies, and what this node passes on for a service."""
    datapath = guarded(ingress=INGRESS, egress=EGRESS, services=1)
    datapath.put("cilium_netdev", 1, {f"masquerade{version}": encoded(NODE[version])})
    left = datapath.run("to_netdev", tcp(CLIENT[version], WORLD[version]), came_from=3)
    assert left.verdict == OK
    assert (IPv6 if version == 6 else IP)(bytes(left.packet.payload)).src == NODE[version]
    assert (
        datapath.run("from_netdev", tcp(WORLD[version], NODE[version], 80, left.packet.sport, "SA")).verdict == REDIRECT
    )
    assert datapath.run("to_netdev", tcp(NODE[version], WORLD[version], 30080, 40000, "SA"), came_from=3).verdict == OK


# ------------------------------------------------------------------------------------------ how it judges


def test_audit_reports_and_drops_nothing(guarded, version: int) -> None:
    datapath = guarded(ingress=INGRESS, egress=EGRESS, flags=EndpointFlags.AUDIT)
    for program, packet in (
        ("from_netdev", tcp(WORLD[version], NODE[version])),
        ("to_netdev", tcp(NODE[version], WORLD[version], 41000)),
        ("from_lxc", tcp(CLIENT[version], NODE[version], 42000)),
    ):
        outcome = datapath.run(program, packet)
        assert outcome.verdict == OK
        assert [event["verdict"] for event in outcome.events] == [FlowVerdict.AUDITED], program


def test_deny_rules_name_themselves(guarded, version: int) -> None:
    datapath = guarded(ingress=INGRESS)
    datapath.rule(INGRESS, 0, 1)
    datapath.rule(INGRESS, world(version), 2, cookie=66, flags=VerdictFlags.DENY)
    outcome = datapath.run("from_netdev", tcp(WORLD[version], NODE[version]))
    assert (outcome.drop, outcome.events[0]["ingress_cookie"]) == (DropReason.POLICY_DENY, 66)


def test_denials_may_be_answered(guarded, version: int) -> None:
    datapath = guarded(ingress=INGRESS, egress=EGRESS, deny_response=1, host_ifindex=1)
    node, world_ = NODE[version], WORLD[version]
    for program, ask in (
        ("from_netdev", tcp(world_, node)),
        ("to_netdev", tcp(node, world_, 41000)),
        ("from_host", tcp(ROUTER[version], REMOTE[version])),
    ):
        outcome = datapath.run(program, ask)
        assert [int(event["reason"]) for event in outcome.events if event["type"] == 1] == [DENIED], program
        answer = outcome.packet.getlayer(2)
        assert (answer.sport, answer.flags.R) == (80, True), program


def test_connections_from_before_are_taken_over_for_a_while(guarded, version: int) -> None:
    """The node's connection to a server: its packets come from the lower port, nobody allowed that port in."""
    datapath = guarded(ingress=INGRESS, flags=EndpointFlags.ADOPTING)
    assert datapath.run("from_netdev", tcp(WORLD[version], NODE[version], 443, 50000, "A")).verdict == OK
    (connection,) = datapath.connections()
    assert list(connection[1]["endpoints"]) == [HOST, 0], "the node is the client"
    settled = guarded(ingress=INGRESS)
    assert settled.run("from_netdev", tcp(WORLD[version], NODE[version], 443, 50000, "A")).drop == DENIED


def test_the_node_is_none_of_its_own_endpoints(guarded, version: int) -> None:
    """allow-localhost lets the node reach its pods, and opens nothing on the node itself."""
    datapath = guarded(ingress=INGRESS)
    datapath.endpoint(CLIENT[version], 1, id=11)  # whatever came here as `host`
    assert datapath.run("from_lxc", tcp(CLIENT[version], NODE[version])).drop == DENIED


def test_without_the_firewall_the_network_is_not_judged(guarded, version: int) -> None:
    datapath = guarded(ingress=INGRESS, egress=EGRESS, host_firewall=0)
    assert datapath.run("from_netdev", tcp(WORLD[version], NODE[version])).verdict == OK
    assert datapath.run("to_netdev", tcp(NODE[version], WORLD[version])).verdict == OK


@pytest.mark.parametrize("egress", [0, EGRESS])
@pytest.mark.parametrize("services", [0, 1])
def test_the_answer_to_a_denial_is_no_connection_of_the_node(guarded, version: int, services: int, egress: int) -> None:
    """It leaves as if forwarded; who was denied must not be let in as if it replied."""
    datapath = guarded(ingress=INGRESS, egress=egress, deny_response=1, host_ifindex=1, services=services)
    node, world_ = NODE[version], WORLD[version]
    answer = datapath.run("from_netdev", tcp(world_, node))
    assert datapath.run("to_netdev", answer.data, came_from=1).verdict == OK
    assert datapath.connections() == []
