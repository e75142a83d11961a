"""What a change of policies would change: traffic between parties, before and after.

In: the policies of both moments, parties, one of each kind that policies tell apart. Out: `Change`s of verdicts. Only
what the changed policies speak about is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from cilium.features.policy.explain.judge import Decision, Mode, Standing, closes, concerns, elements
from cilium.features.policy.explain.rows import Direction, Party, Verdict
from cilium.features.policy.explain.spectrum import Connection, Range, spectrum, stand
from cilium.tables.identities import Reserved
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


Differences = Mapping[tuple[Verdict, Verdict, str], tuple[Range, ...]]
"""Traffic whose verdict changes: from what, into what, why."""


class Comparison:
    """Two sets of policies, and what each says about every party."""

    def __init__(
        self, before: Sequence[PolicyObject], after: Sequence[PolicyObject], endpoints: Iterable[Party], mode: Mode
    ) -> None:
        self._mode = mode
        self._policies = before, after
        self._known: dict[tuple[object, ...], Differences] = {}
        """What was found between two that do not differ in what matters."""
        self._changed = set(before) ^ set(after)
        self._standings: dict[tuple[Direction, Party], tuple[Standing, Standing]] = {}
        self.endpoints = list(endpoints)
        self.touched = {
            (direction, party) for party in self.endpoints for direction in Direction if self._speak(direction, party)
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
        return self._speak(Direction.EGRESS, source) or self._speak(Direction.INGRESS, destination)

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

    def _speak(self, direction: Direction, party: Party) -> bool:
        """Whether a changed policy says something about this direction of the party."""
        return self._mode.enforced_on(party) and any(
            concerns(rule, party) and (elements(rule, direction) or closes(rule, direction))
            for policy in self._changed
            for rule in policy.rules
        )

    def _of(self, direction: Direction, party: Party) -> tuple[Standing, Standing]:
        known = self._standings.get((direction, party))
        if known is None:
            before, after = (stand(policies, direction, party, self._mode) for policies in self._policies)
            known = self._standings[direction, party] = before, after
        return known

    def _changes(self, source: Party, destination: Party) -> Iterable[Change]:
        before, after = self.connections(source, destination)
        key = _what_matters(before), _what_matters(after), destination.named_ports
        if key[0] == key[1]:
            return
        if key not in self._known:
            self._known[key] = _differences(before, after)
        for (was, will_be, reason), ranges in self._known[key].items():
            yield Change(source, destination, was, will_be, ranges, reason)


def _what_matters(connection: Connection) -> tuple[object, ...]:
    """Connections in which this is equal have the same verdicts: the rules that speak, and what becomes of the rest."""
    ends = connection.source, connection.destination
    parts: list[object] = [Reserved.HOST.label in ends[0].labels, *(end.node_labels is None for end in ends)]
    for standing, speaking in zip((connection.egress, connection.ingress), connection.speaking, strict=True):
        # Rules by their number in memory: the standings of a comparison live as long as it.
        parts += [tuple(map(id, speaking)), standing.closed_by, standing.forced]
    return tuple(parts)


def _differences(before: Connection, after: Connection) -> Differences:
    speaking = [statement for one in (before, after) for side in one.speaking for statement in side]
    found: dict[tuple[Verdict, Verdict, str], list[Range]] = {}
    for old, new in zip(spectrum(before, speaking), spectrum(after, speaking), strict=True):
        if old.verdict is not new.verdict:
            found.setdefault((old.verdict, new.verdict, why(old, new)), []).append(new)
    return {key: tuple(_joined(ranges)) for key, ranges in found.items()}


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
