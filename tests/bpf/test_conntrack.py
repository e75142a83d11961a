"""Connections: replies pass, nothing poses as a reply, changes of policy reach what is established."""

from __future__ import annotations

import numpy as np
import pytest
from bpf.harness import OK, REDIRECT, Datapath, Outcome
from bpf.packets import CLIENT, FAMILIES, SERVER, WORLD, echo, ip, tcp, udp
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, IPv6
from scapy.packet import Packet

from cilium.datapath.generated.enums import CtFlags, DropReason, EndpointFlags, EventFlags, TraceReason

EGRESS, INGRESS, SHUT = 5, 7, 9
SERVER_DEVICE = 77


class Pair:
    """A client and a server of one node; both closed but for what the client may ask."""

    def __init__(self, datapath: Datapath, version: int, *, flags: int = 0) -> None:
        self.datapath, self.version = datapath, version
        self.client, self.server = CLIENT[version], SERVER[version]
        # Both interfaces are the loopback device: test runs know no other.
        datapath.endpoint(self.client, 1000, id=11, egress_policy=EGRESS, ingress_policy=SHUT, flags=flags)
        datapath.endpoint(self.server, 2000, id=22, ingress_policy=INGRESS, egress_policy=SHUT, flags=flags)
        for protocol, port in ((6, 80), (17, 53), (1, 8), (58, 128)):
            datapath.rule(EGRESS, 2000, 1, protocol=protocol, port=port)
            datapath.rule(INGRESS, 1000, 2, protocol=protocol, port=port)

    def ask(self, flags: str = "S", sport: int = 40000) -> Outcome:
        return self.datapath.run("from_lxc", tcp(self.client, self.server, sport, 80, flags))

    def answer(self, flags: str = "SA", sport: int = 40000) -> Outcome:
        return self.datapath.run("from_lxc", tcp(self.server, self.client, 80, sport, flags))

    def entry(self) -> np.void:
        ((_, entry),) = self.datapath.connections()
        return entry

    def change_policies(self) -> None:
        self.datapath.epoch += 1
        self.datapath.set_runtime()


@pytest.fixture(params=FAMILIES)
def pair(request: pytest.FixtureRequest, datapath: Datapath) -> Pair:
    return Pair(datapath, request.param)


def test_replies_pass_and_share_the_entry(pair: Pair) -> None:
    assert pair.ask().verdict == REDIRECT
    assert pair.answer().verdict == REDIRECT
    assert pair.ask("A").verdict == REDIRECT
    entry = pair.entry()
    assert list(entry["packets"]) == [2, 1]
    assert (entry["client_identity"], entry["server_identity"]) == (1000, 2000)
    assert entry["flags"] & CtFlags.SEEN_REPLY


@pytest.mark.parametrize("packet", [udp, echo])
def test_datagrams_and_echoes_find_back(pair: Pair, packet) -> None:
    if packet is udp:
        question, answer = udp(pair.client, pair.server), udp(pair.server, pair.client, 53, 40000)
    else:
        question, answer = echo(pair.client, pair.server), echo(pair.server, pair.client, reply=True)
    assert pair.datapath.run("from_lxc", answer).drop == DropReason.POLICY_DENIED
    assert pair.datapath.run("from_lxc", question).verdict == REDIRECT
    result = pair.datapath.run("from_lxc", answer)
    assert result.verdict == REDIRECT
    assert result.events[0]["reason"] == TraceReason.REPLY
    assert result.events[0]["flags"] & EventFlags.REPLY


def test_the_server_opens_nothing_on_the_clients_connection(pair: Pair) -> None:
    pair.ask()
    assert pair.answer("S").drop == DropReason.POLICY_DENIED
    pair.datapath.run("from_lxc", echo(pair.client, pair.server, 9))
    assert pair.datapath.run("from_lxc", echo(pair.server, pair.client, 9)).drop == DropReason.POLICY_DENIED


def test_a_denial_after_a_change_ends_the_connection_in_both_directions(pair: Pair) -> None:
    pair.ask()
    pair.answer()
    pair.datapath.drop_rows("cilium_policy")
    assert pair.answer("A").verdict == REDIRECT  # nobody said that something changed
    pair.change_policies()
    assert pair.answer("A").drop == DropReason.POLICY_DENIED
    assert pair.entry()["policy_epoch"] == 0
    assert pair.ask("A").drop == DropReason.POLICY_DENIED


@pytest.mark.parametrize("version", FAMILIES)
def test_a_reply_on_its_way_does_not_open_what_was_just_denied(make_datapath, version: int) -> None:
    second = 1_000_000_000
    pair = Pair(make_datapath(ct_any=60 * second, ct_tcp_closing=10 * second), version)
    datapath = pair.datapath
    datapath.endpoint(pair.client, 1000, id=11)
    datapath.endpoint(pair.server, 2000, id=22, ingress_policy=INGRESS)  # the server itself may send to anybody
    question, answer = udp(pair.client, pair.server), udp(pair.server, pair.client, 53, 40000)
    assert datapath.run("from_lxc", question).verdict == REDIRECT
    long = pair.entry()["expires"]
    datapath.drop_rows("cilium_policy")
    pair.change_policies()
    for packet in (question, answer, question, answer, question):
        assert datapath.run("from_lxc", packet).drop == DropReason.POLICY_DENIED
    assert long - pair.entry()["expires"] > 45 * second  # it is remembered for as long as replies may be on their way
    datapath.rule(INGRESS, 1000, 2, protocol=17, port=53)
    assert datapath.run("from_lxc", answer).verdict == REDIRECT  # allowed again: the connection goes on
    assert pair.entry()["policy_epoch"] == datapath.epoch


@pytest.mark.parametrize("version", FAMILIES)
def test_a_datagram_that_may_be_an_answer_from_before_a_policy_opens_nothing(datapath: Datapath, version: int) -> None:
    pair = Pair(datapath, version)
    datapath.endpoint(pair.client, 1000, id=11)
    datapath.endpoint(pair.server, 2000, id=22, ingress_policy=INGRESS, flags=EndpointFlags.ADOPTING)
    datapath.drop_rows("cilium_policy")
    answer = udp(pair.server, pair.client, 53, 40000)
    assert datapath.run("from_lxc", answer).verdict == REDIRECT  # as something new it is allowed
    assert datapath.connections() == []
    assert datapath.run("from_lxc", udp(pair.client, pair.server)).drop == DropReason.POLICY_DENIED
    # What the server asks is its own: it comes from a high port.
    assert datapath.run("from_lxc", udp(pair.server, pair.client, 40001, 53)).verdict == REDIRECT
    assert datapath.run("from_lxc", udp(pair.client, pair.server, 53, 40001)).verdict == REDIRECT


@pytest.mark.parametrize("version", FAMILIES)
def test_an_answer_from_before_a_policy_does_not_turn_its_connection_round(datapath: Datapath, version: int) -> None:
    """The peer may open it today; when it may not any more, it must not pass as the one who answers."""
    pair = Pair(datapath, version)
    datapath.endpoint(pair.client, 1000, id=11)
    datapath.endpoint(pair.server, 2000, id=22, ingress_policy=INGRESS, flags=EndpointFlags.ADOPTING)
    question, answer = udp(pair.client, pair.server), udp(pair.server, pair.client, 53, 40000)
    assert datapath.run("from_lxc", answer).verdict == REDIRECT
    assert datapath.run("from_lxc", question).verdict == REDIRECT
    assert pair.entry()["client_identity"] == 1000
    assert datapath.run("from_lxc", answer).verdict == REDIRECT
    datapath.drop_rows("cilium_policy")
    pair.change_policies()
    assert datapath.run("from_lxc", question).drop == DropReason.POLICY_DENIED


def test_another_identity_is_judged_even_if_nobody_said_that_something_changed(pair: Pair) -> None:
    pair.ask()
    pair.datapath.write_endpoint(pair.client, 1001, id=11, egress_policy=EGRESS)
    assert pair.datapath.run("to_lxc", tcp(pair.client, pair.server, 40000, 80, "A")).drop == DropReason.POLICY_DENIED


def test_what_stays_allowed_goes_on_after_a_change(pair: Pair) -> None:
    pair.ask()
    pair.answer()
    pair.change_policies()
    assert pair.answer("A").verdict == REDIRECT
    assert pair.entry()["policy_epoch"] == pair.datapath.epoch
    assert list(pair.entry()["packets"]) == [1, 2]


def test_a_new_identity_is_judged_at_the_next_packet(pair: Pair) -> None:
    pair.ask()
    pair.datapath.endpoint(pair.client, 1001, egress_policy=EGRESS)
    pair.change_policies()
    assert pair.ask("A").drop == DropReason.POLICY_DENIED


def test_a_connection_from_before_the_first_policy_goes_on(datapath: Datapath) -> None:
    for address, identity in ((CLIENT[4], 1000), (SERVER[4], 2000)):
        datapath.endpoint(address, identity)
    assert datapath.run("from_lxc", tcp(CLIENT[4], SERVER[4])).verdict == REDIRECT
    pair = Pair(datapath, 4, flags=EndpointFlags.ADOPTING)
    assert pair.answer("A").verdict == REDIRECT  # the server speaks first: still the client's connection
    assert pair.ask("A").verdict == REDIRECT
    assert list(pair.entry()["packets"]) == [1, 1]


@pytest.mark.parametrize("version", FAMILIES)
def test_a_syn_ack_from_before_is_judged_as_its_connection_would_be(datapath: Datapath, version: int) -> None:
    pair = Pair(datapath, version, flags=EndpointFlags.ADOPTING)
    assert pair.datapath.run("from_lxc", tcp(pair.server, pair.client, 81, 40000, "SA")).drop == (
        DropReason.POLICY_DENIED
    )
    assert pair.answer("SA").verdict == REDIRECT
    assert pair.entry()["client_identity"] == 1000


def test_closing(pair: Pair) -> None:
    pair.ask()
    pair.answer()
    pair.ask("FA")
    assert not pair.entry()["flags"] & CtFlags.CLOSING
    pair.answer("FA")
    assert pair.entry()["flags"] & CtFlags.CLOSING
    assert pair.ask("A").verdict == REDIRECT  # the last acknowledgement


def test_a_reset_closes_and_the_port_is_used_again(pair: Pair) -> None:
    pair.ask()
    pair.answer("RA")
    assert pair.entry()["flags"] & CtFlags.CLOSING
    result = pair.ask("S")
    assert result.events[0]["reason"] == TraceReason.NEW
    assert not pair.entry()["flags"] & (CtFlags.CLOSING | CtFlags.SEEN_REPLY)


def test_nothing_of_a_connection_is_left_in_the_next_one_between_its_ports(pair: Pair) -> None:
    pair.ask()
    fresh = pair.entry()
    for speak, flags in ((pair.answer, "SA"), (pair.ask, "A"), (pair.answer, "A"), (pair.ask, "R")):
        speak(flags)
    pair.ask("S")
    again = pair.entry()
    clocks = {"expires", "reported"}
    assert {name: again[name].tolist() for name in again.dtype.names if name not in clocks} == {
        name: fresh[name].tolist() for name in fresh.dtype.names if name not in clocks
    }
    assert again["reported"][1] == 0


def test_timeouts_follow_the_state(make_datapath) -> None:
    second = 1_000_000_000
    datapath = make_datapath(ct_tcp_syn=30 * second, ct_tcp_established=900 * second, ct_tcp_closing=5 * second)
    pair = Pair(datapath, 4)
    left = []
    for flags, speak in (("S", pair.ask), ("SA", pair.answer), ("R", pair.ask)):
        speak(flags)
        left.append(int(pair.entry()["expires"]))
    assert 800 * second < left[1] - left[0] < 900 * second
    assert -900 * second < left[2] - left[1] < -890 * second


def test_a_dead_entry_is_no_entry(make_datapath) -> None:
    pair = Pair(make_datapath(ct_any=0), 4)
    pair.datapath.run("from_lxc", udp(pair.client, pair.server))
    assert pair.datapath.run("from_lxc", udp(pair.server, pair.client, 53, 40000)).drop == DropReason.POLICY_DENIED


def about(packet: Packet, version: int, source: str, *, too_big: bool = False) -> Packet:
    """An ICMP error about a packet, quoting the first 8 bytes of its transport header."""
    inner = packet.payload
    quoted = bytes(inner)[: (20 if version == 4 else 40) + 8]
    if version == 4:
        return ip(source, inner.src) / ICMP(type=3, code=4 if too_big else 3) / quoted
    message = ICMPv6PacketTooBig(mtu=1280) if too_big else ICMPv6DestUnreach(code=4)
    return ip(source, inner.src) / message / quoted


@pytest.mark.parametrize("too_big", [True, False])
def test_errors_pass_with_the_connection_they_are_about(pair: Pair, too_big: bool) -> None:
    question = udp(pair.client, pair.server)
    error = about(question, pair.version, pair.server, too_big=too_big)
    assert pair.datapath.run("from_lxc", error).drop == DropReason.POLICY_DENIED
    pair.datapath.run("from_lxc", question)
    result = pair.datapath.run("from_lxc", error)
    assert result.verdict == REDIRECT
    assert result.events[0]["reason"] == TraceReason.RELATED
    assert len(pair.datapath.connections()) == 1


def test_an_error_must_quote_what_its_receiver_sent(pair: Pair) -> None:
    pair.datapath.run("from_lxc", udp(pair.client, pair.server))
    quoted = udp("10.0.0.77" if pair.version == 4 else "fd00::77", pair.server)
    error = about(quoted, pair.version, pair.server)
    layer = error[IP] if pair.version == 4 else error[IPv6]
    layer.dst = pair.client
    assert pair.datapath.run("from_lxc", error).drop == DropReason.POLICY_DENIED


@pytest.mark.parametrize("length", [0, 8, 20, 24])
def test_an_error_that_quotes_too_little_belongs_to_nothing(pair: Pair, length: int) -> None:
    pair.datapath.run("from_lxc", udp(pair.client, pair.server))
    error = ip(pair.server, pair.client) / (ICMP(type=3) if pair.version == 4 else ICMPv6DestUnreach())
    assert pair.datapath.run("from_lxc", error / bytes(length)).drop == DropReason.POLICY_DENIED


def test_one_kind_of_icmp_opens_nothing_for_another(datapath: Datapath) -> None:
    datapath.endpoint(CLIENT[4], 1000)
    datapath.endpoint(SERVER[4], 2000, ifindex=SERVER_DEVICE, ingress_policy=INGRESS)
    datapath.rule(INGRESS, 1000, 1, protocol=1, port=13)
    timestamp, mask = (ip(CLIENT[4], SERVER[4]) / ICMP(type=kind) / bytes(12) for kind in (13, 17))
    for _ in range(2):
        assert datapath.run("from_lxc", timestamp).verdict == REDIRECT
        assert datapath.run("from_lxc", mask).drop == DropReason.POLICY_DENIED
    assert datapath.connections() == []


def test_to_the_world_and_back_over_the_stack(pair: Pair) -> None:
    world = WORLD[pair.version]
    pair.datapath.rule(EGRESS, 9 if pair.version == 4 else 10, 1, protocol=17, port=53)
    assert pair.datapath.run("to_lxc", udp(world, pair.client, 53, 40000)).drop == DropReason.POLICY_DENIED
    assert pair.datapath.run("from_lxc", udp(pair.client, world)).verdict == OK
    assert pair.datapath.run("to_lxc", udp(world, pair.client, 53, 40000)).verdict == OK


def test_no_entry_when_only_the_other_node_enforces(datapath: Datapath) -> None:
    datapath.endpoint(CLIENT[4], 1000)
    assert datapath.run("from_lxc", ip(CLIENT[4], WORLD[4]) / UDP()).verdict == OK
    assert datapath.connections() == []
