"""From sets of rules to prefixes of which the longest decides."""

from __future__ import annotations

from itertools import count

import pytest

from cilium.features.policy.rows import Match, Verdict
from cilium.features.policy.verdicts import ANYTHING, Atom, Box, boxes_of, port_prefixes, resolve
from cilium.tables.rules import PortRange

numbers = count()


def atom(cookie: int, *boxes: Box, deny: bool = False, wildcard: bool = False, **fields: object) -> Atom:
    return Atom(next(numbers), cookie, deny, wildcard, (), boxes, **fields)  # type: ignore[arg-type]  # see Atom


def port(number: int, bits: int = 16) -> Box:
    return (8 + bits, 6, number)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (80, 80, [(16, 80)]),
        (0, 65535, [(0, 0)]),
        (1, 65535, [(16 - n, 1 << n) for n in range(16)]),
        (8080, 8095, [(12, 8080)]),
        (79, 81, [(16, 79), (15, 80)]),
        (65535, 65535, [(16, 65535)]),
    ],
)
def test_ranges_become_the_fewest_prefixes(first: int, last: int, expected: list[tuple[int, int]]) -> None:
    assert port_prefixes(first, last) == expected


@pytest.mark.parametrize(("first", "last"), [(1, 1023), (30000, 32767), (5, 5), (1000, 64999)])
def test_prefixes_cover_the_range_exactly(first: int, last: int) -> None:
    covered = [p + i for bits, p in port_prefixes(first, last) for i in range(1 << (16 - bits))]
    assert covered == list(range(first, last + 1))


def test_any_with_ports_is_three_protocols_and_without_ports_everything() -> None:
    assert boxes_of(None) == ((ANYTHING,), ())
    boxes, _ = boxes_of((PortRange(0, 80, 80),))
    assert {protocol for _, protocol, _ in boxes} == {6, 17, 132}
    assert boxes_of((PortRange(17),)) == (((8, 17, 0),), ())
    assert boxes_of((PortRange(1, 0, 0),)) == (((24, 1, 0),), ()), "ICMP type 0 is a type, not all of them"


def test_a_short_denial_beats_a_long_allowance() -> None:
    verdicts = resolve([atom(300, port(80)), atom(301, (8, 6, 0), deny=True)])
    assert verdicts == (Verdict(8, 6, 0, 301, True, Match.L3_PROTO),)


def test_a_long_denial_is_a_hole_in_a_short_allowance() -> None:
    verdicts = resolve([atom(300, ANYTHING), atom(301, port(80), deny=True)])
    assert [(v.prefix, v.cookie, v.deny) for v in verdicts] == [(0, 300, False), (24, 301, True)]


def test_what_changes_nothing_takes_no_row() -> None:
    verdicts = resolve([atom(300, (8, 6, 0)), atom(301, port(80)), atom(302)])
    assert [v.cookie for v in verdicts] == [300]


def test_of_two_rules_about_the_same_the_one_that_names_its_peers_is_named() -> None:
    (verdict,) = resolve([atom(300, port(80), wildcard=True), atom(301, port(80))])
    assert (verdict.cookie, verdict.match) == (301, Match.L3_L4)
    (verdict,) = resolve([atom(300, port(80)), atom(299, port(80))])
    assert verdict.cookie == 299


@pytest.mark.parametrize(
    ("box", "wildcard", "match"),
    [
        (ANYTHING, False, Match.L3_ONLY),
        (ANYTHING, True, Match.ALL),
        ((8, 6, 0), False, Match.L3_PROTO),
        ((8, 6, 0), True, Match.PROTO_ONLY),
        (port(80), False, Match.L3_L4),
        (port(80, 10), True, Match.L4_ONLY),
    ],
)
def test_a_verdict_says_how_specific_its_rule_is(box: Box, wildcard: bool, match: Match) -> None:
    (verdict,) = resolve([atom(300, box, wildcard=wildcard)])
    assert verdict.match == match


def test_named_ports_mean_what_the_facts_say() -> None:
    rule = atom(300, names=(("http", 6), ("dns", 17)))
    facts = [atom(0, fact=("http", 6, 8080)), atom(0, fact=("http", 6, 8081)), atom(0, fact=("http", 17, 1))]
    assert [(v.protocol, v.port) for v in resolve([rule, *facts])] == [(6, 8080), (6, 8081)]
    assert resolve([rule]) == ()
