"""Tiers, priorities, Pass and audit mode, as prefixes of which the longest decides."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from property.policy_node import judge
from property.policy_oracle import Flow

from cilium.features.policy.rows import PolicyClass
from cilium.features.policy.tiers import Level, Stand
from cilium.features.policy.verdicts import ANYTHING, Atom, Box, resolve
from cilium.tables.rules import AUDITED_DEFAULT_DENY, DEFAULT_DENY, NO_DEFAULT_DENY, Action
from cilium.tables.types import ClassId

numbers = count()
HTTP: Flow = (6, 80)
SSH: Flow = (6, 22)
ACCEPT, DENY, PASS = Action.ALLOW, Action.DENY, Action.PASS
ADMIN, NORMAL, BASELINE = Level.ADMIN, Level.NORMAL, Level.BASELINE


def port(number: int) -> Box:
    return (24, 6, number)


def rule(cookie: int, action: Action, *boxes: Box, level: Level = ADMIN, priority: int = 0, **fields: Any) -> Atom:
    stand = Stand(cookie, action, level=level, priority=priority, **({"object": str(cookie)} | fields))
    return atom(stand, *boxes)


def atom(stand: Stand, *boxes: Box) -> Atom:
    plain = stand.level is NORMAL and not stand.audit
    return Atom(
        next(numbers), stand.cookie, stand.action is DENY, stand.wildcard, (), boxes or (ANYTHING,),
        stand=None if plain else stand,
    )  # fmt: skip


OPEN = atom(Stand(NO_DEFAULT_DENY, ACCEPT, wildcard=True, level=Level.OPEN))
AUDITED = atom(Stand(AUDITED_DEFAULT_DENY, DENY, wildcard=True, level=Level.CLOSED, audit=True))


def said(flow: Flow, *atoms: Atom) -> str:
    return judge(PolicyClass(ClassId(1), resolve(atoms)), *flow)


def cookies(*atoms: Atom) -> list[tuple[int, int]]:
    return [(verdict.prefix, verdict.cookie) for verdict in resolve(atoms)]


@pytest.mark.parametrize(
    ("rules", "http", "ssh"),
    [
        pytest.param([rule(300, DENY), rule(301, ACCEPT, level=NORMAL)], "denied", "denied", id="admin first"),
        pytest.param([rule(300, ACCEPT), rule(301, DENY, level=NORMAL)], "allowed", "allowed", id="admin accepts"),
        pytest.param(
            [rule(300, DENY, priority=2), rule(301, ACCEPT, port(80), priority=1)], "allowed", "denied", id="priority"
        ),
        pytest.param(
            [rule(300, ACCEPT, port(80), priority=2), rule(301, DENY, priority=1)],
            "denied",
            "denied",
            id="a wide rule with the lower priority number beats a narrow one",
        ),
        pytest.param(
            [rule(300, ACCEPT, port(80), index=0, object="a"), rule(301, DENY, index=1, object="a")],
            "allowed",
            "denied",
            id="position in the object",
        ),
        pytest.param(
            [rule(300, PASS, port(80)), rule(301, DENY, priority=1), rule(302, ACCEPT, level=NORMAL)],
            "allowed",
            "denied",
            id="pass skips the rest of the tier",
        ),
        pytest.param(
            [rule(300, PASS, port(80)), rule(301, ACCEPT, priority=1)],
            "denied",
            "allowed",
            id="pass into default deny is a hole in what lies around it",
        ),
        pytest.param(
            [rule(300, ACCEPT, level=BASELINE), rule(301, DENY, port(80), level=NORMAL), OPEN],
            "denied",
            "allowed",
            id="normal before baseline",
        ),
        pytest.param(
            [rule(300, DENY, level=BASELINE), rule(301, ACCEPT, port(80), level=NORMAL), OPEN],
            "allowed",
            "denied",
            id="baseline before nothing",
        ),
        pytest.param(
            [rule(300, PASS, port(80), level=BASELINE), rule(301, DENY, level=BASELINE, priority=1), OPEN],
            "allowed",
            "denied",
            id="pass of the last tier opens",
        ),
    ],
)
def test_tiers(rules: list[Atom], http: str, ssh: str) -> None:
    assert (said(HTTP, *rules), said(SSH, *rules)) == (http, ssh)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(DENY, ACCEPT, "denied"), (ACCEPT, DENY, "denied"), (PASS, ACCEPT, "denied"), (ACCEPT, ACCEPT, "allowed")],
)
def test_of_two_objects_with_one_priority_the_cautious_one_has_its_way(
    first: Action, second: Action, expected: str
) -> None:
    # Whatever their positions: an object's own first match counts.
    one = [rule(300, first, index=0, object="a"), rule(301, ACCEPT, index=1, object="a")]
    other = [rule(302, second, index=5, object="b")]
    assert said(HTTP, *one, *other) == expected


def test_a_hole_of_default_deny_is_no_denial_by_a_rule() -> None:
    around, hole = resolve([rule(300, PASS, port(80)), rule(301, ACCEPT, priority=1)])
    assert (hole.prefix, hole.cookie, hole.deny, hole.default) == (24, DEFAULT_DENY, True, True)
    assert (around.prefix, around.cookie) == (0, 301)


def test_what_changes_nothing_takes_no_row() -> None:
    assert cookies(rule(300, DENY), rule(301, DENY, port(80), level=NORMAL)) == [(0, 300)]
    assert cookies(rule(300, ACCEPT, index=0, object="a"), rule(301, ACCEPT, port(80), index=1, object="a")) == [
        (0, 300)
    ]


def test_audit_mode_neither_opens_nor_closes() -> None:
    opens = rule(300, ACCEPT, level=NORMAL, audit=True)
    assert said(HTTP, opens) == "denied"
    closes = rule(301, DENY, port(80), level=NORMAL, audit=True)
    assert (said(HTTP, closes, OPEN), said(SSH, closes, OPEN)) == ("audited", "allowed")
    enforced = rule(302, DENY, port(80), level=NORMAL)
    assert said(HTTP, closes, enforced, OPEN) == "denied"
    assert cookies(closes, enforced, OPEN) == [(0, NO_DEFAULT_DENY), (24, 302)]


def test_default_deny_in_audit_mode() -> None:
    allow = rule(300, ACCEPT, port(80), level=NORMAL, audit=True)
    assert (said(HTTP, allow, AUDITED, OPEN), said(SSH, allow, AUDITED, OPEN)) == ("allowed", "audited")
    assert cookies(allow, AUDITED, OPEN) == [(0, AUDITED_DEFAULT_DENY), (24, 300)], "the rule on trial is named"
    baseline = rule(301, ACCEPT, level=BASELINE)
    assert said(SSH, baseline, AUDITED, OPEN) == "audited", "a closed direction asks no baseline"


def test_a_tier_in_audit_mode() -> None:
    shut = rule(300, DENY, audit=True)
    assert said(HTTP, shut, rule(301, ACCEPT, level=NORMAL)) == "audited"
    assert said(HTTP, shut) == "denied", "by default, whatever is tried out"
    passes = rule(302, PASS, audit=True)
    assert said(HTTP, passes, rule(303, ACCEPT, priority=1)) == "audited", "it would end in default deny"
    assert cookies(passes, rule(303, ACCEPT, priority=1)) == [(0, AUDITED_DEFAULT_DENY)]
