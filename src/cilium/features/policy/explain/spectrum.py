"""All traffic between two parties at once: ranges of ports with one verdict each.

In: the rules that select the two. Out: `Range`s that cover every protocol and port, as few as there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cilium.features.policy.explain.judge import Decision, Mode, Standing, decide, standing
from cilium.features.policy.explain.matching import about, numbers_of, protocols
from cilium.features.policy.explain.rows import PROTOCOL_NAMES, Direction, Party, Statement, Traffic, Verdict
from cilium.tables.kubernetes import NamedPort
from cilium.tables.rules import PolicyObject, PortRange

OTHER = 0
"""Stands for every protocol that rules cannot name."""
LAST = {6: 65535, 17: 65535, 132: 65535, 1: 255, 58: 255}
"""The highest port, or type, of a protocol."""
_OPEN = Standing((), (), "")


@dataclass(frozen=True)
class Range:
    """Traffic of one protocol, from port `first` to `last`."""

    protocol: int
    first: int
    last: int
    verdict: Verdict
    decisions: tuple[Decision, ...] = ()
    """Of egress and ingress."""

    def holds(self, traffic: Traffic) -> bool:
        if self.protocol == OTHER:
            return traffic.protocol not in PROTOCOL_NAMES
        return self.protocol == traffic.protocol and self.first <= traffic.port <= self.last

    @property
    def text(self) -> str:
        if self.protocol == OTHER:
            return "other protocols"
        name = PROTOCOL_NAMES[self.protocol]
        if (self.first, self.last) == (0, LAST[self.protocol]):
            return name
        kind = "type " if self.protocol in (1, 58) else ""
        return f"{name} {kind}{self.first}" + (f"-{self.last}" if self.last > self.first else "")


@dataclass(frozen=True)
class Connection:
    """Two parties, and the rules that select each."""

    source: Party
    destination: Party
    egress: Standing
    ingress: Standing
    mode: Mode

    @classmethod
    def between(cls, policies: Sequence[PolicyObject], source: Party, destination: Party, mode: Mode) -> Connection:
        egress = stand(policies, Direction.EGRESS, source, mode)
        return cls(source, destination, egress, stand(policies, Direction.INGRESS, destination, mode), mode)

    @property
    def speaking(self) -> tuple[tuple[Statement, ...], tuple[Statement, ...]]:
        """Statements of each direction that are about the other party, whatever the traffic."""
        egress = tuple(one for one in self.egress.statements if about(one.element.peers, self.destination))
        return egress, tuple(one for one in self.ingress.statements if about(one.element.peers, self.source))

    def decide(self, traffic: Traffic) -> tuple[Decision, Decision]:
        named = self.destination.named_ports
        egress = self.egress.matching(self.destination, traffic, named)
        ingress = self.ingress.matching(self.source, traffic, named)
        return (
            decide(self.egress, egress, self.source, self.destination, Direction.EGRESS, self.mode),
            decide(self.ingress, ingress, self.destination, self.source, Direction.INGRESS, self.mode),
        )


def stand(policies: Iterable[PolicyObject], direction: Direction, subject: Party, mode: Mode) -> Standing:
    """What is said about a direction; nothing about parties on which nothing is enforced."""
    return standing(policies, direction, subject, mode) if mode.enforced_on(subject) else _OPEN


def spectrum(connection: Connection, more: Iterable[Statement] = ()) -> list[Range]:
    """Every protocol and port once. `more`: statements whose ports begin ranges too, to compare two spectra."""
    egress, ingress = connection.speaking
    slim = replace(
        connection,
        egress=replace(connection.egress, statements=egress),
        ingress=replace(connection.ingress, statements=ingress),
    )
    cuts = boundaries((*egress, *ingress, *more), connection.destination.named_ports)
    ranges = []
    for protocol, last in LAST.items():
        starts = sorted({0, *(cut for cut in cuts[protocol] if cut <= last)})
        for first, following in zip(starts, [*starts[1:], last + 1], strict=True):
            ranges.append(_range(slim, protocol, first, following - 1))
    ranges.append(_range(slim, OTHER, 0, 0))
    return ranges


def boundaries(statements: Iterable[Statement], named: Sequence[NamedPort]) -> dict[int, set[int]]:
    """By protocol: the ports at which what rules say may change."""
    cuts: dict[int, set[int]] = {protocol: set() for protocol in LAST}
    for statement in statements:
        for port in statement.element.ports or ():
            for protocol in protocols(port):
                for first, last in _spans(port, protocol, named):
                    cuts.setdefault(protocol, set()).update((first, last + 1))
    return cuts


def _spans(port: PortRange, protocol: int, named: Sequence[NamedPort]) -> Iterable[tuple[int, int]]:
    if port.name:
        return [(number, number) for number in numbers_of(port.name, protocol, named)]
    return [(port.first, port.last)]


def _range(connection: Connection, protocol: int, first: int, last: int) -> Range:
    decisions = connection.decide(Traffic(protocol if protocol != OTHER else 255, first))
    verdicts = {decision.verdict for decision in decisions}
    verdict = next((one for one in (Verdict.DENIED, Verdict.AUDIT) if one in verdicts), Verdict.ALLOWED)
    return Range(protocol, first, last, verdict, decisions)
