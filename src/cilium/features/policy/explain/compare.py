"""What a change of policies would change: traffic between parties, before and after.

In: the policies of both moments, parties, one of each kind that policies tell apart. Out: `Change`s of verdicts. Only
what the changed policies speak about is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from cilium.features.policy.explain.judge import Decision, Mode, Standing
from cilium.features.policy.explain.rows import Direction, Party, Verdict
from cilium.features.policy.explain.spectrum import Connection, Range, spectrum, stand
from cilium.tables.rules import PolicyObject
from cilium.tables.types import IPNetwork


@dataclass(frozen=True)
class Change:
    """`ranges`: neighbours with the same verdicts are one."""

    source: Party
    destination: Party
    before: Verdict
    after: Verdict
    ranges: tuple[Range, ...]
    why: str


class Comparison:
    """Two sets of policies, and what each says about every party."""

    def __init__(
        self, before: Sequence[PolicyObject], after: Sequence[PolicyObject], endpoints: Iterable[Party], mode: Mode
    ) -> None:
        self._mode = mode
        self._policies = before, after
        self._standings: dict[tuple[Direction, Party], tuple[Standing, Standing]] = {}
        self.endpoints = list(endpoints)
        self.touched = {
            (direction, party)
            for party in self.endpoints
            for direction in Direction
            if len(set(map(_signature, self._of(direction, party)))) > 1
        }
        """Directions of parties of which the changed policies speak."""

    def connections(self, source: Party, destination: Party) -> tuple[Connection, Connection]:
        """Before and after."""
        egress, ingress = self._of(Direction.EGRESS, source), self._of(Direction.INGRESS, destination)
        first, second = (
            Connection(source, destination, out, into, self._mode) for out, into in zip(egress, ingress, strict=True)
        )
        return first, second

    def differ(self, source: Party, destination: Party) -> bool:
        """Whether the change speaks of the two; they need not be among the endpoints."""
        sides = (Direction.EGRESS, source), (Direction.INGRESS, destination)
        return any(len(set(map(_signature, self._of(*side)))) > 1 for side in sides)

    def concerns(self, source: Party, destination: Party) -> bool:
        return (Direction.EGRESS, source) in self.touched or (Direction.INGRESS, destination) in self.touched

    def changes(self, others: Iterable[Party]) -> list[Change]:
        """Of all pairs of endpoints, and of endpoints and others."""
        others = list(others)
        pairs = [(one, other) for one in self.endpoints for other in (*self.endpoints, *others)]
        pairs += [(other, one) for one in self.endpoints for other in others]
        return [change for pair in pairs if self.concerns(*pair) for change in self._changes(*pair)]

    def prefixes(self) -> set[IPNetwork]:
        """Every CIDR that rules of the touched parties name."""
        return {
            prefix
            for key in self.touched
            for standing in self._of(*key)
            for statement in standing.statements
            for peer in statement.element.peers.cidrs
            for prefix in (peer.cidr, *peer.excepts)
            if prefix.prefixlen
        }

    def _of(self, direction: Direction, party: Party) -> tuple[Standing, Standing]:
        known = self._standings.get((direction, party))
        if known is None:
            before, after = (stand(policies, direction, party, self._mode) for policies in self._policies)
            known = self._standings[direction, party] = before, after
        return known

    def _changes(self, source: Party, destination: Party) -> Iterable[Change]:
        before, after = self.connections(source, destination)
        speaking = [statement for one in (before, after) for side in one.speaking for statement in side]
        found: dict[tuple[Verdict, Verdict, str], list[Range]] = {}
        for old, new in zip(spectrum(before, speaking), spectrum(after, speaking), strict=True):
            if old.verdict is not new.verdict:
                found.setdefault((old.verdict, new.verdict, why(old, new)), []).append(new)
        for (was, will_be, reason), ranges in found.items():
            yield Change(source, destination, was, will_be, tuple(_joined(ranges)), reason)


def _signature(standing: Standing) -> tuple[object, ...]:
    """What tells two standings apart; where the rules come from and in what order does not."""
    return frozenset(standing.statements), frozenset(standing.closed_by), standing.forced


def why(old: Range, new: Range) -> str:
    """The decision that makes the difference, in words."""
    for was, will_be in zip(old.decisions, new.decisions, strict=True):
        if was.verdict is not will_be.verdict:
            opened = will_be.verdict is Verdict.ALLOWED and not will_be.deciding
            return f"no longer {decision_text(was)}" if opened else decision_text(will_be)
    return ""


def decision_text(decision: Decision) -> str:
    if decision.deciding:
        return f"{decision.verdict} by {decision.deciding[0].text}"
    return decision.reason


def _joined(ranges: Iterable[Range]) -> Iterable[Range]:
    last: Range | None = None
    for one in ranges:
        if last and (last.protocol, last.last + 1) == (one.protocol, one.first):
            last = Range(last.protocol, last.first, one.last, one.verdict)
            continue
        if last:
            yield last
        last = one
    if last:
        yield last


def representatives(prefixes: Iterable[IPNetwork]) -> Mapping[IPNetwork, IPNetwork]:
    """An address for each prefix, in none of the longer ones; prefixes that are full of longer ones have none."""
    known = sorted(set(prefixes), key=lambda prefix: (prefix.version, int(prefix.network_address), prefix.prefixlen))
    found = {}
    for prefix in known:
        inner = [one for one in known if one != prefix and one.version == prefix.version and one.subnet_of(prefix)]  # type: ignore[arg-type]  # versions are equal
        address = int(prefix.network_address)
        for hole in inner:  # sorted: what begins at or before the candidate pushes it past its end
            if int(hole.network_address) <= address <= int(hole.broadcast_address):
                address = int(hole.broadcast_address) + 1
        if address <= int(prefix.broadcast_address):
            found[prefix] = ip_network((address, prefix.max_prefixlen))
    return found
