"""Denials that are answered (policy-deny-response: icmp): who hears what, and what is never answered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bpf.balanced import Cluster, end
from bpf.harness import REDIRECT, SHOT, Datapath, Outcome
from bpf.nodes import execute
from bpf.packets import CLIENT, FAMILIES, SERVER, checksums_hold, echo, ip, tcp, udp
from bpf.test_balance_packets import network
from bpf.test_conntrack import Pair
from scapy.layers.inet import ICMP, TCP, IPOption_NOP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6ExtHdrDestOpt, PadN
from scapy.packet import Packet

from cilium.datapath.generated.enums import DropReason, EndpointFlags, RoutingMode, ServiceScope

SHUT = 9
VIP = {4: "198.51.100.7", 6: "2001:db8:7::7"}


@pytest.fixture(params=FAMILIES)
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def node(make_datapath, version: int) -> Datapath:
    """A client whose egress is shut, and a server that anybody may ask."""
    made = make_datapath(deny_response=1)
    made.endpoint(CLIENT[version], 1000, id=11, egress_policy=SHUT)
    made.endpoint(SERVER[version], 2000, id=22)
    return made


def refused(result: Outcome) -> Packet:
    """The answer; the drop is told all the same."""
    assert [int(event["reason"]) for event in result.events] == [DropReason.POLICY_DENIED]
    assert result.verdict == REDIRECT
    assert checksums_hold(result.data)
    return network(result.packet)


@pytest.mark.parametrize("flags", ["S", "A", "SA"])
def test_a_segment_is_reset(node: Datapath, version: int, flags: str) -> None:
    client, server = CLIENT[version], SERVER[version]
    answer = refused(node.run("from_lxc", tcp(client, server, 4000, 80, flags)))
    assert (answer.src, answer.dst) == (server, client)
    assert (answer[TCP].sport, answer[TCP].dport, answer[TCP].flags.R) == (80, 4000, True)


@pytest.mark.parametrize("ask", [udp, echo])
def test_everything_else_is_prohibited(node: Datapath, version: int, ask) -> None:
    client, server = CLIENT[version], SERVER[version]
    question = ask(client, server)
    answer = refused(node.run("from_lxc", question))
    assert (answer.src, answer.dst) == (server, client)
    error = answer[ICMP if version == 4 else ICMPv6DestUnreach]
    assert (error.type, error.code) == ((3, 13) if version == 4 else (1, 1))
    assert bytes(error)[8:28] == bytes(question.payload)[:20]


@pytest.mark.parametrize("size", [0, 1400])
def test_headers_of_the_question_are_none_of_the_answer(node: Datapath, version: int, size: int) -> None:
    client, server = CLIENT[version], SERVER[version]
    question = ip(client, server, **({"options": [IPOption_NOP()] * 40} if version == 4 else {}))
    if version == 6:
        question /= IPv6ExtHdrDestOpt(options=[PadN(optdata=b"x" * 190)])
    question /= TCP(sport=4000, dport=80, flags="S", seq=7) / bytes(size)
    answer = refused(node.run("from_lxc", question))
    assert (answer.src, answer.dst, answer[TCP].ack) == (server, client, 8 + size)


def test_what_is_never_answered(node: Datapath, version: int) -> None:
    client, server = CLIENT[version], SERVER[version]
    error = ICMP(type=3, code=1) if version == 4 else ICMPv6DestUnreach(code=3)
    quoted = bytes(udp(server, client).payload)
    some = [
        tcp(client, server, flags="R"),
        tcp(client, server, flags="RA"),
        echo(client, server, reply=True),
        ip(client, server) / error / quoted,
        udp(client, "224.1.2.3" if version == 4 else "ff05::3"),
    ]
    if version == 4:
        some.append(udp(client, "255.255.255.255"))
        some.append(ip(client, server) / ICMP(type=13))
    for packet in some:
        result = node.run("from_lxc", packet)
        assert (result.verdict, result.data) == (SHOT, bytes(packet)), packet.summary()


def test_audit_answers_nobody(node: Datapath, version: int) -> None:
    node.endpoint(CLIENT[version], 1000, id=11, egress_policy=SHUT, flags=EndpointFlags.AUDIT)
    packet = tcp(CLIENT[version], SERVER[version])
    result = node.run("from_lxc", packet)
    assert result.verdict == REDIRECT
    assert "R" not in result.packet[TCP].flags


def test_without_the_setting_denials_are_silent(datapath: Datapath, version: int) -> None:
    datapath.endpoint(CLIENT[version], 1000, id=11, egress_policy=SHUT)
    assert datapath.run("from_lxc", tcp(CLIENT[version], SERVER[version])).verdict == SHOT


def test_a_known_connection_that_is_denied_is_not_reset(make_datapath, version: int) -> None:
    pair = Pair(make_datapath(deny_response=1), version)
    pair.ask()
    pair.answer()
    pair.datapath.drop_rows("cilium_policy")
    pair.change_policies()
    assert pair.ask("A").verdict == SHOT
    assert refused(pair.ask("A", sport=5)).dst == pair.client


def test_answers_are_limited(make_datapath) -> None:
    node = make_datapath(deny_response=1)
    node.endpoint(CLIENT[4], 1000, id=11, egress_policy=SHUT)
    frame = bytes(udp(CLIENT[4], SERVER[4]))
    verdicts = [node.run_unread("from_lxc", frame).retval for _ in range(2500)]
    assert verdicts[:1000].count(REDIRECT) == 1000
    assert SHOT in verdicts


# --- with real clients


@pytest.fixture(scope="module", params=[RoutingMode.TUNNEL, RoutingMode.NATIVE], ids=["tunnel", "native"])
def cluster(request: pytest.FixtureRequest, objects: None) -> Iterator[Cluster]:
    made = Cluster(request.param, deny_response=1, masquerade4=0, masquerade6=0)
    if request.param == RoutingMode.NATIVE:
        made.route_natively()
    for node in (made.one, made.two):
        n = node.number
        lead(made, f"10.0.{n}.0/24", node.address4)
        lead(made, f"fd00:0:0:{n}::/64", node.address6)
    yield made
    made.close()


def lead(cluster: Cluster, prefix: str, via: str) -> None:
    """The world knows the way to pods."""
    execute(cluster.outside, "ip", "route", "add", prefix, "via", via)


@pytest.fixture
def shut(cluster: Cluster) -> Iterator[Cluster]:
    """The client may ask nobody else than its own node's pod 2, which lets nobody in; nor does pod 3."""
    cluster.one.describe(1, 1000, egress_policy=5)
    cluster.one.datapath.rule(5, 2000, 1)
    cluster.one.describe(2, 2000, ingress_policy=SHUT)
    cluster.two.describe(3, 3000, ingress_policy=SHUT)
    yield cluster
    cluster.one.describe(1, 1000)
    cluster.one.describe(2, 2000)
    cluster.two.describe(3, 3000)


PROHIBITED = {4: "EHOSTUNREACH", 6: "EACCES"}


@pytest.mark.parametrize("asker", ["client", "node", "outside", "egress", "near"])
def test_every_client_hears_it_at_once(shut: Cluster, version: int, asker: str) -> None:
    here = end(shut.one, 2, version)
    there = end(shut.two, 3, version)
    namespace, target = {
        "client": (shut.client, here),  # denied by its peer's ingress, on its own node
        "egress": (shut.client, there),  # by its own egress
        "near": (shut.near, there),  # by ingress on another node
        "node": (shut.one.namespace, there),  # the same, asked by a node
        "outside": (shut.outside, here),
    }[asker]
    assert shut.ask(namespace, "tcp", *target).error == "ECONNREFUSED"
    assert shut.ask(namespace, "udp", *target).error == PROHIBITED[version]


def test_the_nodes_own_question_is_answered(shut: Cluster, version: int) -> None:
    shut.one.datapath.rule(7, 1, 4, flags=1)  # VERDICT_DENY for the host, which else may
    shut.one.describe(2, 2000, ingress_policy=7)
    assert shut.ask(shut.one.namespace, "tcp", *end(shut.one, 2, version)).error == "ECONNREFUSED"
    assert shut.ask(shut.one.namespace, "udp", *end(shut.one, 2, version)).error == PROHIBITED[version]


@pytest.mark.parametrize("where", ["near", "far"])
def test_a_service_refuses_in_its_own_name(shut: Cluster, version: int, where: str) -> None:
    backend = end(shut.one, 2, version) if where == "near" else end(shut.two, 3, version)
    services = shut.services[1]
    for protocol in ("tcp", "udp"):
        services.put(VIP[version], 80, backend, protocol=protocol, scope=ServiceScope.EXTERNAL, number=7)
        services.put(VIP[version], 80, backend, protocol=protocol, scope=ServiceScope.CLUSTER, number=7)
    assert shut.ask(shut.outside, "tcp", VIP[version], 80).error == "ECONNREFUSED"
    assert shut.ask(shut.outside, "udp", VIP[version], 80).error == PROHIBITED[version]
    shut.one.describe(1, 1000)
    assert shut.ask(shut.client, "tcp", VIP[version], 80).error == "ECONNREFUSED"
    assert shut.ask(shut.client, "udp", VIP[version], 80).error == PROHIBITED[version]
