"""What a set of rules says about traffic, as prefixes of which the longest decides.

In: rules that select the same peer (`Atom`s). Out: `Verdict`s of a class.

Deny beats allow whatever the length of the prefix, so precedence is resolved here: the prefixes of rules form a tree
(any traffic ⊃ a protocol ⊃ ports), what applies to a packet is what lies on its path from the root, and a verdict stays
only where it is stronger than all above it. Where tiers or audit mode are involved, tiers.py says what is stronger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from cilium.features.policy.rows import Match, Verdict
from cilium.features.policy.tiers import Decision, Level, Path, Stand
from cilium.tables.rules import Action, PortRange

Box = tuple[int, int, int]
"""(prefix, protocol, port) as in Verdict: a set of traffic."""
PortName = tuple[str, int]
"""Name and protocol number."""

ANYTHING: Box = (0, 0, 0)
ANY_PROTOCOLS = (6, 17, 132)
"""TCP, UDP, SCTP: the protocols that `ANY` beside a port means."""
PORT_BITS = 16


class Atom(msgspec.Struct, frozen=True, eq=False):
    """One element of a direction of a rule, ready to be compiled. `id` is never used again for another."""

    id: int
    cookie: int
    deny: bool
    wildcard: bool
    selectors: tuple[int, ...]
    """Numbers in the selector cache; the peers are those that any of them selects."""
    boxes: tuple[Box, ...]
    names: tuple[PortName, ...] = ()
    """Named ports, to be resolved per peer (egress) or per subject (ingress)."""
    fact: tuple[str, int, int] | None = None
    """No rule: (name, protocol, port) says what a named port means where this atom applies."""
    stand: Stand | None = None
    """None: of tier NORMAL, and enforced."""

    @property
    def special(self) -> bool:
        """Where it is, precedence is no longer deny before allow."""
        return self.stand is not None and self.stand.level is not Level.OPEN


def port_prefixes(first: int, last: int) -> list[tuple[int, int]]:
    """The fewest (bits, port) prefixes that cover the ports from `first` to `last`, both included."""
    prefixes = []
    while first <= last:
        size = min(first & -first or 1 << PORT_BITS, 1 << ((last - first + 1).bit_length() - 1))
        prefixes.append((PORT_BITS - size.bit_length() + 1, first))
        first += size
    return prefixes


def boxes_of(ports: Iterable[PortRange] | None) -> tuple[tuple[Box, ...], tuple[PortName, ...]]:
    """Sets of traffic, and named ports, of the L4 half of a rule."""
    if ports is None:
        return (ANYTHING,), ()
    boxes: dict[Box, None] = {}
    names: dict[PortName, None] = {}
    for entry in ports:
        for protocol in (entry.protocol,) if entry.protocol else ANY_PROTOCOLS:
            if entry.name:
                names[entry.name, protocol] = None
            else:
                for bits, port in port_prefixes(entry.first, entry.last):
                    boxes[8 + bits, protocol, port] = None
    return tuple(boxes), tuple(names)


def resolve(atoms: Iterable[Atom]) -> tuple[Verdict, ...]:
    """The verdicts of all these atoms together; empty: nothing is let through."""
    rules: list[Atom] = []
    ports: dict[PortName, list[int]] = {}
    tiered = False
    for atom in atoms:
        if atom.fact is None:
            rules.append(atom)
            tiered = tiered or atom.special
        else:
            ports.setdefault(atom.fact[:2], []).append(atom.fact[2])
    if tiered:
        return tuple(_tiered(rules, ports))
    strongest: dict[Box, Atom] = {}
    for atom in rules:
        for box in _boxes(atom, ports):
            present = strongest.get(box)
            if present is None or _strength(atom) > _strength(present):
                strongest[box] = atom
    return tuple(_longest_prefix_form(strongest))


def _boxes(atom: Atom, ports: Mapping[PortName, list[int]]) -> Iterable[Box]:
    return (*atom.boxes, *_named(atom, ports)) if atom.names else atom.boxes


def _named(atom: Atom, ports: Mapping[PortName, list[int]]) -> Iterable[Box]:
    for name in atom.names:
        for port in ports.get(name, ()):
            yield 8 + PORT_BITS, name[1], port


def _strength(atom: Atom) -> tuple[bool, bool, int]:
    """Of rules about the same traffic: deny first, then the one that names its peers, then any but always the same."""
    return atom.deny, not atom.wildcard, -atom.cookie


def _longest_prefix_form(strongest: Mapping[Box, Atom]) -> list[Verdict]:
    """Only what changes the verdict of what is around it."""
    kept: dict[Box, bool] = {}
    verdicts = []
    shorter: list[int] = []
    length = -1
    for box in sorted(strongest):
        atom = strongest[box]
        prefix, protocol, port = box
        if prefix != length:
            shorter = sorted({kept_prefix for kept_prefix, _, _ in kept})
            length = prefix
        if shorter:
            above = [deny for bits in shorter if (deny := kept.get(_enclosing(box, bits))) is not None]
            if above and (not atom.deny or True in above):
                continue
        kept[box] = atom.deny
        verdicts.append(Verdict(prefix, protocol, port, atom.cookie, atom.deny, _match(prefix, wildcard=atom.wildcard)))
    return verdicts


def _tiered(rules: Iterable[Atom], ports: Mapping[PortName, list[int]]) -> Iterable[Verdict]:
    """The same for rules of several tiers or in audit mode: what decides at each box, given all that encloses it."""
    stands: dict[Box, list[Stand]] = {}
    for atom in rules:
        for box in _boxes(atom, ports):
            stands.setdefault(box, []).append(atom.stand or _normal(atom))
    lengths = sorted({prefix for prefix, _, _ in stands}, reverse=True)
    paths: dict[Box, Path] = {}
    decided: dict[Box, Decision | None] = {}
    for box in sorted(stands):
        around = (_enclosing(box, bits) for bits in lengths if bits < box[0])
        above = next((wider for wider in around if wider in paths), None)
        path = paths[box] = (Path() if above is None else paths[above]).then(stands[box])
        decision = decided[box] = path.decision()
        if decision is not None and (above is None or decision != decided[above]):
            match = 0 if decision.default else _match(box[0], wildcard=decision.wildcard)
            yield Verdict(*box, decision.cookie, decision.deny, match, decision.audit, decision.default)


def _normal(atom: Atom) -> Stand:
    return Stand(atom.cookie, Action.DENY if atom.deny else Action.ALLOW, atom.wildcard)


def _enclosing(box: Box, prefix: int) -> Box:
    _, protocol, port = box
    if prefix == 0:
        return ANYTHING
    free = PORT_BITS + 8 - prefix
    return prefix, protocol, port >> free << free


def _match(prefix: int, *, wildcard: bool) -> Match:
    if prefix == 0:
        return Match.ALL if wildcard else Match.L3_ONLY
    if prefix == 8:
        return Match.PROTO_ONLY if wildcard else Match.L3_PROTO
    return Match.L4_ONLY if wildcard else Match.L3_L4
