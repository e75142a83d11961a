"""The rules of all policy objects, as atoms.

In: `PolicyObject`s. Out: which rule sets appeared and disappeared, atoms by number and by selector, cookies and the
`rule-references` that explain them.

An element of a rule that an edit leaves alone keeps its atom, so that an edit costs what it changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import msgspec
from pyroaring import BitMap

from cilium.features.policy.selectors import SelectorCache
from cilium.features.policy.verdicts import ANYTHING, Atom, PortName, boxes_of
from cilium.state.ids import StableIds
from cilium.tables.rules import (
    Action,
    CIDRPeer,
    DirectionRule,
    PolicyObject,
    Requirement,
    Rule,
    RuleReference,
    Selector,
)

NO_DEFAULT_DENY = 1
"""Cookie of the rule that nobody wrote: policies apply, and none of them switches default deny on."""
FIRST_COOKIE = 256
DELETED_REFERENCES = 4096
"""References kept after their rule, for flows of the recent past."""


class RuleSet(msgspec.Struct, frozen=True, eq=False):
    """One `spec` of one object, compiled; replaced as a whole."""

    rule: Rule
    subject: int
    """Number of its selector in the cache of subjects."""
    atoms: dict[int, tuple[DirectionRule, int]]
    """By cookie: the element and its atom."""
    ingress: BitMap
    egress: BitMap


class Repository:
    """Atoms of peers are evaluated in `peers`, subjects of rule sets in `subjects`; `selectors_of` says whom a CIDR
    means."""

    def __init__(
        self,
        *,
        peers: SelectorCache,
        subjects: SelectorCache,
        selectors_of: Callable[[CIDRPeer], Iterable[Selector]],
    ) -> None:
        self._peers, self._subjects = peers, subjects
        self._selectors_of = selectors_of
        self._objects: dict[str, tuple[RuleSet, ...]] = {}
        self._atoms: dict[int, Atom] = {}
        self._garbage: list[Atom] = []
        self._cookies = StableIds(first=FIRST_COOKIE, last=0xFFFF_FFFF)
        self._next = 0
        self.by_selector: dict[int, BitMap] = {}
        """Atoms whose peers a selector selects."""
        self.by_subject: dict[int, list[RuleSet]] = {}
        self.wildcards = BitMap()
        self.denials = BitMap()
        self.named = BitMap()
        """Atoms with named ports."""
        self._facts: dict[tuple[str, int, int], int] = {}
        self.facts: dict[PortName, BitMap] = {}
        """Atoms that say what a named port means at a peer."""
        self._gone: deque[tuple[RuleReference, bytes]] = deque()
        self._references: dict[int, RuleReference] = {}
        self._told: dict[int, RuleReference | None] = {}
        self.allow_all = self._add(NO_DEFAULT_DENY, wildcard=True, boxes=(ANYTHING,)).id
        self._refer(RuleReference(NO_DEFAULT_DENY, "", "", "no default deny", "", 0))

    def atom(self, number: int) -> Atom:
        return self._atoms[number]

    def members(self, number: int) -> BitMap:
        """The identities whom an atom is about, wildcards apart."""
        selectors = self._atoms[number].selectors
        if len(selectors) == 1:
            return self._peers.members(selectors[0])
        return BitMap.union(*map(self._peers.members, selectors)) if selectors else BitMap()

    def about(self, identity: int) -> BitMap:
        """Every atom that is about this identity, wildcards apart."""
        found = [atoms for number in self._peers.selecting(identity) if (atoms := self.by_selector.get(number))]
        return BitMap.union(*found) if found else BitMap()

    def replace(self, key: str, new: PolicyObject | None) -> tuple[list[RuleSet], list[RuleSet]]:
        """(removed, added) rule sets of one object; equal ones stay.

        Atoms of the removed live until `collect`, and their subject's selector until `release_subject`: the policies
        that used them are still to be told.
        """
        old = self._objects.pop(key, ())
        rules = [] if new is None else [_enforceable(rule) for rule in new.rules]
        kept: list[RuleSet] = []
        removed: list[RuleSet] = []
        added: list[RuleSet] = []
        for position in range(max(len(old), len(rules))):
            before = old[position] if position < len(old) else None
            if before is not None and position < len(rules) and before.rule == rules[position]:
                kept.append(before)
                continue
            after = None
            if new is not None and position < len(rules):
                after = self._compile(new, position, rules[position], before)
                kept.append(after)
                added.append(after)
            if before is not None:
                self._discard(key, position, before, after)
                removed.append(before)
        if kept:
            self._objects[key] = tuple(kept)
        return removed, added

    def fact(self, name: str, protocol: int, port: int) -> tuple[int, bool]:
        """The atom that says what a named port means where it applies, and whether it is new."""
        known = self._facts.get((name, protocol, port))
        if known is not None:
            return known, False
        requirement = Requirement(f"named-port:{name}/{protocol}", "In", (str(port),))
        selectors = (self._peers.acquire(Selector((requirement,))),)
        atom = self._add(0, selectors=selectors, fact=(name, protocol, port))
        self._facts[name, protocol, port] = atom.id
        self.facts.setdefault((name, protocol), BitMap()).add(atom.id)
        return atom.id, True

    def collect(self) -> None:
        """Forgets removed atoms, once nothing is left to be compiled from them."""
        for atom in self._garbage:
            del self._atoms[atom.id]
            for index in (self.wildcards, self.denials, self.named):
                index.discard(atom.id)
            for selector in atom.selectors:
                self.by_selector[selector].discard(atom.id)
                if not self.by_selector[selector]:
                    del self.by_selector[selector]
                self._peers.release(selector)
        self._garbage.clear()

    def flush_references(self) -> tuple[list[RuleReference], list[int]]:
        """Rows to write, keys to delete."""
        told, self._told = self._told, {}
        upserts = [row for row in told.values() if row is not None]
        return upserts, [cookie for cookie, row in told.items() if row is None]

    # ---------------------------------------------------------------------------------------------------- in parts

    def _compile(self, new: PolicyObject, position: int, rule: Rule, before: RuleSet | None) -> RuleSet:
        reusable = {} if before is None else before.atoms
        atoms: dict[int, tuple[DirectionRule, int]] = {}
        directions = []
        for elements in (rule.ingress, rule.egress):
            numbers = BitMap()
            for element in elements:
                cookie = self._cookies.get(_name(new.key, position, element))
                known = reusable.get(cookie)
                if known is None or known[0] != element:
                    known = (element, self._atom_of(cookie, element).id)
                atoms[cookie] = known
                numbers.add(known[1])
                self._refer(_reference(cookie, new, position, rule, element))
            directions.append(numbers)
        rule_set = RuleSet(rule, self._subjects.acquire(rule.subject), atoms, *directions)
        self.by_subject.setdefault(rule_set.subject, []).append(rule_set)
        return rule_set

    def _discard(self, key: str, position: int, before: RuleSet, after: RuleSet | None) -> None:
        kept = {} if after is None else after.atoms
        for cookie, (element, number) in before.atoms.items():
            if cookie not in kept:
                self._bury(cookie, _name(key, position, element))
            if kept.get(cookie, (None, -1))[1] != number:
                self._garbage.append(self._atoms[number])
        sets = self.by_subject[before.subject]
        sets.remove(before)
        if not sets:
            del self.by_subject[before.subject]

    def release_subject(self, rule_set: RuleSet) -> None:
        """The subjects of a removed rule set know."""
        self._subjects.release(rule_set.subject)

    def _atom_of(self, cookie: int, element: DirectionRule) -> Atom:
        boxes, names = boxes_of(element.ports)
        cidrs = (selector for peer in element.peers.cidrs for selector in self._selectors_of(peer))
        numbers = [self._peers.acquire(selector) for selector in dict.fromkeys((*element.peers.selectors, *cidrs))]
        return self._add(
            cookie,
            deny=element.action is Action.DENY,
            wildcard=element.peers.wildcard,
            selectors=tuple(sorted(numbers)),
            boxes=boxes,
            names=names,
        )

    def _add(
        self,
        cookie: int,
        *,
        deny: bool = False,
        wildcard: bool = False,
        selectors: tuple[int, ...] = (),
        boxes: tuple[tuple[int, int, int], ...] = (),
        names: Iterable[PortName] = (),
        fact: tuple[str, int, int] | None = None,
    ) -> Atom:
        atom = Atom(self._next, cookie, deny, wildcard, selectors, boxes, tuple(names), fact)
        self._next += 1
        self._atoms[atom.id] = atom
        for index, belongs in ((self.wildcards, wildcard), (self.denials, deny), (self.named, atom.names)):
            if belongs:
                index.add(atom.id)
        for selector in selectors:
            self.by_selector.setdefault(selector, BitMap()).add(atom.id)
        return atom

    def _refer(self, row: RuleReference) -> None:
        if self._references.get(row.cookie) != row:
            self._references[row.cookie] = self._told[row.cookie] = row

    def _bury(self, cookie: int, name: bytes) -> None:
        """The cookie is given to nobody else as long as its reference can be asked for."""
        row = msgspec.structs.replace(self._references[cookie], deleted=True)
        self._refer(row)
        self._gone.append((row, name))
        while len(self._gone) > DELETED_REFERENCES:
            oldest, name = self._gone.popleft()
            if self._references.get(oldest.cookie) is oldest:  # it did not come back meanwhile
                del self._references[oldest.cookie]
                self._told[oldest.cookie] = None
                self._cookies.free(name)


def _enforceable(rule: Rule) -> Rule:
    """A rule about nodes selects no endpoint."""
    if not rule.node_subject:
        return rule
    return msgspec.structs.replace(rule, ingress=(), egress=(), default_deny_ingress=False, default_deny_egress=False)


def _name(key: str, position: int, element: DirectionRule) -> bytes:
    return f"{key}/{position}/{element.section}/{element.index}".encode()


def _reference(cookie: int, new: PolicyObject, position: int, rule: Rule, element: DirectionRule) -> RuleReference:
    return RuleReference(
        cookie=cookie,
        kind=new.kind,
        namespace=new.namespace,
        name=new.name,
        section=element.section,
        index=element.index,
        spec=position,
        labels=rule.labels,
        log=rule.log,
    )


def unenforced(rules: Iterable[Rule]) -> tuple[str, ...]:
    """Paths of everything in these rules that this version parses and does not enforce."""
    paths: list[str] = []
    for rule in rules:
        if rule.node_subject:
            paths.append("nodeSelector")
        for element in (*rule.ingress, *rule.egress):
            paths += element.unenforced
    return tuple(paths)
