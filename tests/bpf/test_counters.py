"""Counters of rules: what each has let through or dropped, exactly, whatever events say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bpf.harness import REDIRECT, Datapath
from bpf.packets import FAMILIES, echo, tcp, udp
from bpf.test_conntrack import EGRESS, Pair
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6

from cilium.datapath.generated import POLICY_COUNTER, POLICY_COUNTER_KEY
from cilium.datapath.generated.enums import DropReason, VerdictFlags
from cilium.datapath.maps import possible_cpus
from cilium.features.conntrack.counters import add_leftovers, uncounted
from cilium.features.policy.counters import totals

LET_OUT, LET_IN = 1 * 100 + 16, 2 * 100 + 16
"""Cookies of the rules of a Pair."""
SHUT_OUT = 3 * 100 + 16


def count_for(datapath: Datapath, *cookies: int) -> None:
    keys = np.zeros(len(cookies), POLICY_COUNTER_KEY)
    keys["cookie"] = cookies
    datapath.map("cilium_policy_counters").update(keys, np.zeros((len(cookies), possible_cpus()), POLICY_COUNTER))


def counts(datapath: Datapath) -> dict[int, tuple[int, int]]:
    return totals(datapath.map("cilium_policy_counters"))


def packets(datapath: Datapath) -> dict[int, int]:
    return {cookie: found[0] for cookie, found in counts(datapath).items()}


@pytest.fixture(params=FAMILIES)
def pair(request: pytest.FixtureRequest, datapath: Datapath) -> Pair:
    count_for(datapath, LET_OUT, LET_IN, SHUT_OUT)
    return Pair(datapath, request.param)


def lengths(*frames: Any) -> int:
    return sum(len(bytes(frame)) for frame in frames)


def test_a_connection_counts_for_both_rules_with_its_replies(pair: Pair) -> None:
    pair.ask()
    assert packets(pair.datapath) == {LET_OUT: 1, LET_IN: 1, SHUT_OUT: 0}
    pair.answer()
    for _ in range(3):
        pair.ask("A")
        pair.answer("A")
    assert packets(pair.datapath)[LET_OUT] == 2  # the rest is told with the next report
    pair.ask("FA")
    pair.answer("FA")
    frames = [tcp(pair.client, pair.server, 40000, 80, "A")] * 10
    assert counts(pair.datapath) == {LET_OUT: (10, lengths(*frames)), LET_IN: (10, lengths(*frames)), SHUT_OUT: (0, 0)}


def test_an_interval_is_counted_also_without_events(pair: Pair) -> None:
    pair.datapath.aggregation = 0
    pair.datapath.set_runtime(flags=1)  # RUNTIME_EVENTS_OFF
    question, answer = udp(pair.client, pair.server), udp(pair.server, pair.client, 53, 40000)
    assert not pair.datapath.run("from_lxc", question).events
    assert not pair.datapath.run("from_lxc", answer).events
    assert counts(pair.datapath)[LET_OUT] == (2, lengths(question, answer))


def test_a_denial_counts_at_once_and_only_with_a_rule(pair: Pair) -> None:
    datapath = pair.datapath
    datapath.rule(EGRESS, 2000, 3, protocol=6, port=81, flags=VerdictFlags.DENY)
    datapath.rule(EGRESS, 2000, 3, protocol=6, port=82)
    frame = tcp(pair.client, pair.server, 40000, 81)
    assert datapath.run("from_lxc", frame).drop == DropReason.POLICY_DENY
    assert counts(datapath)[SHUT_OUT] == (1, lengths(frame))
    # Let out by a rule, and let in by none: the first has decided all the same.
    assert datapath.run("from_lxc", tcp(pair.client, pair.server, 40000, 82)).drop == DropReason.POLICY_DENIED
    assert datapath.run("from_lxc", tcp(pair.server, pair.client, 40000, 81)).drop == DropReason.POLICY_DENIED
    assert packets(datapath) == {LET_OUT: 0, LET_IN: 0, SHUT_OUT: 2}


def test_what_passed_before_a_change_of_rules_counts_for_the_old_ones(pair: Pair) -> None:
    datapath = pair.datapath
    pair.ask()
    pair.answer()
    pair.ask("A")
    pair.answer("A")
    for protocol, port in ((6, 80), (1, 8)):
        datapath.rule(EGRESS, 2000, 3, protocol=protocol, port=port)
    pair.change_policies()
    pair.ask("A")
    pair.answer("FA")
    pair.ask("FA")
    assert packets(datapath) == {LET_OUT: 4, LET_IN: 7, SHUT_OUT: 3}


def test_the_next_connection_of_the_same_ports_leaves_nothing_uncounted(pair: Pair) -> None:
    pair.ask()
    pair.ask("A")
    pair.ask("A")
    pair.ask("R")
    pair.answer("A")
    assert packets(pair.datapath)[LET_IN] == 5  # the first answer is reported
    pair.answer("A")
    pair.ask("S")
    assert packets(pair.datapath) == {LET_OUT: 7, LET_IN: 7, SHUT_OUT: 0}


def test_what_a_dead_connection_did_not_tell_is_added_once(pair: Pair) -> None:
    datapath = pair.datapath
    pair.ask()
    pair.answer()
    for _ in range(5):
        pair.ask("A")
    pair.answer("A")
    port = datapath.map("cilium_policy_counters")
    for _ in range(2):
        _, values = datapath.map("cilium_ct").dump()
        add_leftovers(port, uncounted(values))
    frame = lengths(tcp(pair.client, pair.server, 40000, 80, "A"))
    assert counts(datapath)[LET_OUT] == (2 + 2 * 6, (2 + 2 * 6) * frame)  # added twice, because not deleted
    datapath.drop_rows("cilium_policy_counters")  # of a rule that is gone, nothing is kept
    add_leftovers(port, uncounted(values))
    assert counts(datapath) == {}


def test_an_entry_that_changed_hands_meanwhile_counts_nothing(pair: Pair) -> None:
    """Two processors at once: one made it another connection's while the other told the rules of the one before."""
    datapath = pair.datapath
    pair.ask()
    before = counts(datapath)
    keys, values = datapath.map("cilium_ct").dump()
    values["told_packets"], values["told_bytes"] = 9, 900
    datapath.map("cilium_ct").update(keys, values)
    add_leftovers(datapath.map("cilium_policy_counters"), uncounted(values))
    pair.ask("FA")
    assert counts(datapath) == before
    pair.ask("FA")
    assert packets(datapath)[LET_OUT] == 2


@pytest.mark.parametrize("version", FAMILIES)
def test_icmp_that_opens_nothing_counts_packet_by_packet(datapath: Datapath, version: int) -> None:
    count_for(datapath, LET_OUT, LET_IN)
    pair = Pair(datapath, version)
    question = udp(pair.client, pair.server)
    assert datapath.run("from_lxc", question).verdict == REDIRECT
    inner = question.getlayer(IP if version == 4 else IPv6)
    error = ICMP(type=3, code=4) if version == 4 else ICMPv6PacketTooBig()
    outer = echo(pair.server, pair.client)
    outer[IP if version == 4 else IPv6].remove_payload()
    if version == 4:
        del outer[IP].proto, outer[IP].len, outer[IP].chksum
    else:
        del outer[IPv6].nh, outer[IPv6].plen
    assert datapath.run("from_lxc", outer / error / inner).verdict == REDIRECT
    assert packets(datapath) == {LET_OUT: 2, LET_IN: 2}


def test_without_a_row_nothing_is_counted_and_everything_passes(datapath: Datapath) -> None:
    pair = Pair(datapath, 4)
    assert pair.ask().verdict == REDIRECT
    assert counts(datapath) == {}
