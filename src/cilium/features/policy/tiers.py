"""What rules of several tiers, some of them in audit mode, say together about traffic.

In: the rules about each box (a set of traffic, see verdicts.py) on the way to a packet. Out: the `Decision` there.

Boxes form a tree, and what applies to a packet is what lies on its path from the root. A `Standing` holds of such a
path what can still matter: of the tier NORMAL its strongest rule, of an ordered tier the first match of each object
with the lowest priority. Two are kept, one without the rules in audit mode and one with them: the first is enforced,
and where the second would refuse what the first lets pass, the packet is reported.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import msgspec

from cilium.tables.rules import AUDITED_DEFAULT_DENY, DEFAULT_DENY, NO_DEFAULT_DENY, Action, Tier


class Level(IntEnum):
    """Where in the order of evaluation an atom stands."""

    ADMIN = 0
    NORMAL = 1
    CLOSED = 2
    """Default deny of policies in audit mode: behind everything in NORMAL, before BASELINE. The enforced one needs no
    atom: behind it nothing is asked at all."""
    BASELINE = 3
    OPEN = 4
    """No policy closes the direction."""


LEVELS = {Tier.ADMIN: Level.ADMIN, Tier.NORMAL: Level.NORMAL, Tier.BASELINE: Level.BASELINE}
_CAUTIOUS = {Action.DENY: 0, Action.PASS: 1, Action.ALLOW: 2}
"""Which of two objects with equal priority has its way."""


class Stand(msgspec.Struct, frozen=True, eq=False):
    """What an atom says, and where. `object` tells objects apart; `priority` and `index` matter in ordered tiers."""

    cookie: int
    action: Action
    wildcard: bool = False
    level: Level = Level.NORMAL
    priority: int = 0
    index: int = 0
    object: str = ""
    audit: bool = False


class Decision(msgspec.Struct, frozen=True):
    """`default`: no rule decides, default deny does. `audit`: would be denied, if what is in audit mode were enforced.

    `wildcard`: the rule is about every peer.
    """

    cookie: int
    deny: bool
    wildcard: bool
    audit: bool = False
    default: bool = False


_CLOSED = Decision(DEFAULT_DENY, True, True, default=True)

Standing = tuple[tuple[Stand, ...], ...]
"""By level: the rules of a path that can still decide; in ordered tiers at most one per object, of one priority."""
NOBODY: Standing = ((),) * len(Level)


class Path(msgspec.Struct, frozen=True, eq=False):
    """All that lies on the way from the root to a box."""

    enforced: Standing = NOBODY
    everything: Standing = NOBODY
    """With the rules in audit mode."""

    def then(self, stands: Iterable[Stand]) -> Path:
        """The path that goes on to a box with these rules."""
        enforced, everything = list(self.enforced), list(self.everything)
        for stand in sorted(stands, key=_caution):
            everything[stand.level] = _joined(everything[stand.level], stand)
            if not stand.audit:
                enforced[stand.level] = _joined(enforced[stand.level], stand)
        return Path(tuple(enforced), tuple(everything))

    def decision(self) -> Decision | None:
        """None: default deny, and nobody has spoken."""
        enforced, everything = _decider(self.enforced), _decider(self.everything)
        if enforced is None:
            return _CLOSED if any(self.enforced) else None
        if enforced.action is Action.DENY:
            return Decision(enforced.cookie, True, enforced.wildcard)
        if everything is None or everything.level is Level.CLOSED:
            return Decision(AUDITED_DEFAULT_DENY, True, True, audit=True, default=True)
        if everything.action is Action.DENY:
            return Decision(everything.cookie, True, everything.wildcard, audit=True)
        # Where nobody else speaks, the rule is named that would let it pass: that is what people try out.
        named = everything if enforced.cookie == NO_DEFAULT_DENY else enforced
        return Decision(named.cookie, False, named.wildcard)


def _decider(standing: Standing) -> Stand | None:
    """Who decides; None: default deny."""
    for level in Level:
        if standing[level]:
            first = min(standing[level], key=_caution)
            if first.action is not Action.PASS:
                return first
    return None


def _caution(stand: Stand) -> tuple[int, bool, int]:
    """Of rules about the same traffic: deny first, then the one that names its peers, then any but always the same."""
    return _CAUTIOUS[stand.action], stand.wildcard, stand.cookie


def _joined(present: tuple[Stand, ...], new: Stand) -> tuple[Stand, ...]:
    """What can still decide of `present`, in whose path `new` comes next."""
    if not present:
        return (new,)
    if new.level not in (Level.ADMIN, Level.BASELINE):
        return (new,) if _stronger(new, present[0]) else present
    if new.priority != present[0].priority:
        return (new,) if new.priority < present[0].priority else present
    others = tuple(stand for stand in present if stand.object != new.object)
    before = next((stand for stand in present if stand.object == new.object), None)
    return present if before is not None and before.index <= new.index else (*others, new)


def _stronger(new: Stand, present: Stand) -> bool:
    """In NORMAL deny beats allow; of rules that agree the one with the widest range stays."""
    return new.action is Action.DENY and present.action is not Action.DENY
