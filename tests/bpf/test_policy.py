"""The verdict: which row and which prefix decide, for each direction, and what the event says of it."""

from __future__ import annotations

import pytest
from bpf.harness import OK, REDIRECT, SHOT, Datapath, Outcome
from bpf.packets import CLIENT, FAMILIES, SERVER, WORLD, echo, ip, tcp, udp
from scapy.packet import Raw

from cilium.datapath.generated.enums import DropReason, EndpointFlags, EventFlags, FlowVerdict, VerdictFlags

EGRESS, INGRESS = 5, 7
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58


@pytest.fixture(params=FAMILIES)
def version(request: pytest.FixtureRequest) -> int:
    return request.param


def pods(datapath: Datapath, version: int, *, egress: int = 0, ingress: int = 0, flags: int = 0) -> None:
    datapath.endpoint(CLIENT[version], 1000, id=11, egress_policy=egress)
    datapath.endpoint(SERVER[version], 2000, id=22, ifindex=77, ingress_policy=ingress, flags=flags)


def ask(datapath: Datapath, version: int, port: int = 80) -> Outcome:
    return datapath.run("from_lxc", tcp(CLIENT[version], SERVER[version], dport=port, sport=30000 + port))


def test_nothing_enforced_passes_and_keeps_no_state(datapath: Datapath, version: int) -> None:
    pods(datapath, version)
    assert ask(datapath, version).verdict == REDIRECT
    assert datapath.connections() == []


@pytest.mark.parametrize("side", ["egress", "ingress"])
def test_enforced_without_rules_is_denied_by_default(datapath: Datapath, version: int, side: str) -> None:
    pods(datapath, version, **{side: EGRESS})
    result = ask(datapath, version)
    assert (result.verdict, result.drop) == (SHOT, DropReason.POLICY_DENIED)
    (event,) = result.events
    decided = EventFlags.EGRESS_DECIDED if side == "egress" else EventFlags.INGRESS_DECIDED
    assert event["flags"] & (EventFlags.EGRESS_DECIDED | EventFlags.INGRESS_DECIDED) == decided
    assert (event["egress_cookie"], event["ingress_cookie"]) == (0, 0)
    assert (event["source_identity"], event["destination_identity"]) == (1000, 2000)
    assert event["verdict"] == FlowVerdict.DROPPED
    assert datapath.connections() == []


@pytest.mark.parametrize("protocol", [112, 2, 47, 4, 41, 50, 51])
def test_protocols_without_ports_are_judged_by_their_number(datapath: Datapath, version: int, protocol: int) -> None:
    """VRRP, IGMP, GRE, IPIP, IPV6, ESP, AH. In IPv6 AH is passed over: what follows it is judged, here ESP."""
    pods(datapath, version, ingress=INGRESS)
    judged = 50 if (version, protocol) == (6, 51) else protocol
    number = {"proto": protocol} if version == 4 else {"nh": protocol}
    content = bytes([50, 4, *bytes(22)]) + bytes(24)  # an AH header; to the others, anything
    packet = ip(CLIENT[version], SERVER[version], **number) / Raw(content)
    datapath.rule(INGRESS, 1000, 2, protocol=judged + 1)
    assert datapath.run("from_lxc", packet).drop == DropReason.POLICY_DENIED
    datapath.rule(INGRESS, 1000, 3, protocol=judged, cookie=701)
    result = datapath.run("from_lxc", packet)
    assert (result.verdict, [event["ingress_cookie"] for event in result.events]) == (REDIRECT, [701])


def test_both_directions_must_allow(datapath: Datapath, version: int) -> None:
    pods(datapath, version, egress=EGRESS, ingress=INGRESS)
    datapath.rule(EGRESS, 2000, 1, protocol=TCP, port=80, cookie=501, match=2)
    assert ask(datapath, version).drop == DropReason.POLICY_DENIED
    datapath.rule(INGRESS, 1000, 2, protocol=TCP, port=80, cookie=701, match=2)
    result = ask(datapath, version)
    assert result.verdict == REDIRECT
    (event,) = result.events
    assert (event["egress_cookie"], event["ingress_cookie"]) == (501, 701)
    assert (event["egress_match"], event["ingress_match"]) == (2, 2)
    assert event["flags"] & EventFlags.EGRESS_DECIDED
    assert event["flags"] & EventFlags.INGRESS_DECIDED
    assert ask(datapath, version, 81).drop == DropReason.POLICY_DENIED


def test_a_row_of_its_own_hides_the_wildcard(datapath: Datapath, version: int) -> None:
    pods(datapath, version, ingress=INGRESS)
    datapath.rule(INGRESS, 0, 1)
    assert ask(datapath, version).verdict == REDIRECT
    datapath.rule(INGRESS, 1000, 2, protocol=TCP, port=443)
    assert ask(datapath, version, 81).drop == DropReason.POLICY_DENIED
    assert ask(datapath, version, 443).verdict == REDIRECT


def test_the_longest_prefix_decides(datapath: Datapath, version: int) -> None:
    pods(datapath, version, ingress=INGRESS)
    datapath.rule(INGRESS, 1000, 1, protocol=TCP, cookie=40, flags=VerdictFlags.DENY)
    datapath.rule(INGRESS, 1000, 1, protocol=TCP, port=8080, bits=12, cookie=12)
    datapath.rule(INGRESS, 1000, 1, protocol=TCP, port=8081, cookie=16, flags=VerdictFlags.DENY)
    verdicts = {port: ask(datapath, version, port).verdict for port in (8079, 8080, 8081, 8095, 8096)}
    assert verdicts == {8079: SHOT, 8080: REDIRECT, 8081: SHOT, 8095: REDIRECT, 8096: SHOT}


def test_a_deny_rule_names_itself(datapath: Datapath, version: int) -> None:
    pods(datapath, version, ingress=INGRESS)
    datapath.rule(INGRESS, 1000, 1, cookie=66, flags=VerdictFlags.DENY, match=1)
    result = ask(datapath, version)
    assert result.drop == DropReason.POLICY_DENY
    assert (result.events[0]["ingress_cookie"], result.events[0]["ingress_match"]) == (66, 1)


def test_protocols_are_told_apart(datapath: Datapath, version: int) -> None:
    pods(datapath, version, ingress=INGRESS)
    datapath.rule(INGRESS, 1000, 1, protocol=UDP, port=80)
    assert ask(datapath, version).drop == DropReason.POLICY_DENIED
    assert datapath.run("from_lxc", udp(CLIENT[version], SERVER[version], dport=80)).verdict == REDIRECT


def test_icmp_types_are_ports(datapath: Datapath, version: int) -> None:
    pods(datapath, version, ingress=INGRESS)
    ping = echo(CLIENT[version], SERVER[version])
    assert datapath.run("from_lxc", ping).drop == DropReason.POLICY_DENIED
    datapath.rule(INGRESS, 1000, 1, protocol=ICMP if version == 4 else ICMP6, port=8 if version == 4 else 128)
    assert datapath.run("from_lxc", ping).verdict == REDIRECT


@pytest.mark.parametrize(
    ("flags", "reason"),
    [(VerdictFlags.REDIRECT, DropReason.PUNT_PROXY), (VerdictFlags.AUTH, DropReason.AUTH_REQUIRED)],
)
def test_what_is_not_there_yet_stays_closed(datapath: Datapath, version: int, flags: int, reason: int) -> None:
    pods(datapath, version, ingress=INGRESS)
    datapath.rule(INGRESS, 1000, 1, flags=flags)
    assert ask(datapath, version).drop == reason


@pytest.mark.parametrize("how", ["endpoint", "rule"])
def test_audit_reports_and_lets_pass(datapath: Datapath, version: int, how: str) -> None:
    pods(datapath, version, ingress=INGRESS, flags=EndpointFlags.AUDIT if how == "endpoint" else 0)
    if how == "rule":
        datapath.rule(INGRESS, 1000, 1, flags=VerdictFlags.DENY | VerdictFlags.AUDIT)
    result = ask(datapath, version)
    assert result.verdict == REDIRECT
    assert [event["verdict"] for event in result.events] == [FlowVerdict.AUDITED]
    reply = datapath.run("from_lxc", tcp(SERVER[version], CLIENT[version], 80, 30080, "SA"), ifindex=1)
    assert reply.drop == DropReason.INVALID_SOURCE_IP  # of another interface: audit is about policy only


@pytest.mark.parametrize("end", ["egress", "ingress"])
def test_audit_tells_which_direction(datapath: Datapath, version: int, end: str) -> None:
    pods(datapath, version, egress=EGRESS, ingress=INGRESS)
    for policy, identity, number, name in ((EGRESS, 2000, 1, "egress"), (INGRESS, 1000, 2, "ingress")):
        datapath.rule(policy, identity, number, flags=VerdictFlags.DENY | VerdictFlags.AUDIT if name == end else 0)
    (event,) = ask(datapath, version).events
    audited = {"egress": EventFlags.EGRESS_AUDITED, "ingress": EventFlags.INGRESS_AUDITED}
    assert event["verdict"] == FlowVerdict.AUDITED
    assert [name for name, flag in audited.items() if event["flags"] & flag] == [end]


def test_a_row_of_default_deny_is_as_none(datapath: Datapath, version: int) -> None:
    datapath.node_address("10.0.0.254" if version == 4 else "fd00::a")
    pods(datapath, version, ingress=INGRESS)
    datapath.rule(INGRESS, 1000, 1)
    datapath.rule(INGRESS, 1000, 1, protocol=TCP, port=80, cookie=0, flags=VerdictFlags.DENY | VerdictFlags.DEFAULT)
    result = ask(datapath, version)
    assert (result.drop, result.events[0]["ingress_cookie"]) == (DropReason.POLICY_DENIED, 0)
    datapath.rule(INGRESS, 1, 1, protocol=TCP, port=80, cookie=0, flags=VerdictFlags.DENY | VerdictFlags.DEFAULT)
    datapath.endpoint(SERVER[version], 2000, ingress_policy=INGRESS)
    source = "10.0.0.254" if version == 4 else "fd00::a"
    assert datapath.run("to_lxc", tcp(source, SERVER[version], dport=80)).verdict == OK, "the node reaches its pods"


@pytest.mark.parametrize("end", ["client", "server"])
def test_an_endpoint_that_is_not_ready_is_closed(datapath: Datapath, version: int, end: str) -> None:
    pods(datapath, version)
    if end == "client":
        datapath.endpoint(CLIENT[version], 1000, flags=EndpointFlags.NOT_READY)
    else:
        pods(datapath, version, flags=EndpointFlags.NOT_READY)
    assert ask(datapath, version).drop == DropReason.EP_NOT_READY


def test_the_node_reaches_its_pods_unless_a_rule_denies_it(datapath: Datapath, version: int) -> None:
    datapath.node_address("10.0.0.254" if version == 4 else "fd00::a")
    datapath.endpoint(SERVER[version], 2000, ingress_policy=INGRESS)
    source = "10.0.0.254" if version == 4 else "fd00::a"
    assert datapath.run("to_lxc", tcp(source, SERVER[version])).verdict == OK
    datapath.rule(INGRESS, 1, 1, flags=VerdictFlags.DENY)
    assert datapath.run("to_lxc", tcp(source, SERVER[version], 40001)).drop == DropReason.POLICY_DENY


def test_localhost_needs_a_rule_when_configured_so(make_datapath, version: int) -> None:
    datapath = make_datapath(allow_localhost=0)
    datapath.node_address("10.0.0.254" if version == 4 else "fd00::a")
    datapath.endpoint(SERVER[version], 2000, ingress_policy=INGRESS)
    source = "10.0.0.254" if version == 4 else "fd00::a"
    assert datapath.run("to_lxc", tcp(source, SERVER[version])).drop == DropReason.POLICY_DENIED


def test_identity_of_the_world_and_of_prefixes(datapath: Datapath, version: int) -> None:
    datapath.endpoint(CLIENT[version], 1000, egress_policy=EGRESS)
    packet = tcp(CLIENT[version], WORLD[version])
    assert datapath.run("from_lxc", packet).events[0]["destination_identity"] == (9 if version == 4 else 10)
    wide, narrow = ("192.0.0.0/16", "192.0.2.0/24") if version == 4 else ("2001:db8::/32", "2001:db8::/64")
    datapath.ipcache(wide, 1 << 24 | 1)
    assert datapath.run("from_lxc", packet).events[0]["destination_identity"] == 1 << 24 | 1
    datapath.ipcache(narrow, 1 << 24 | 2)
    datapath.rule(EGRESS, 1 << 24 | 2, 1, protocol=TCP, port=80)
    result = datapath.run("from_lxc", packet)
    assert (result.verdict, result.events[0]["destination_identity"]) == (OK, 1 << 24 | 2)
    datapath.ipcache(WORLD[version], 4711)
    assert datapath.run("from_lxc", tcp(CLIENT[version], WORLD[version], 40001)).drop == DropReason.POLICY_DENIED


def test_one_family_has_one_world(make_datapath) -> None:
    datapath = make_datapath(enable_ipv6=0)
    datapath.endpoint(CLIENT[4], 1000, egress_policy=EGRESS)
    assert datapath.run("from_lxc", tcp(CLIENT[4], WORLD[4])).events[0]["destination_identity"] == 2
