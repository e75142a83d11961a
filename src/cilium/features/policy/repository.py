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
from cilium.features.policy.tiers import LEVELS, Level, Stand
from cilium.features.policy.verdicts import ANYTHING, Atom, PortName, boxes_of
from cilium.state.ids import StableIds
from cilium.tables.identities import Reserved
from cilium.tables.rules import (
    AUDITED_DEFAULT_DENY,
    FIRST_COOKIE,
    NO_DEFAULT_DENY,
    Action,
    CIDRPeer,
    DirectionRule,
    PolicyObject,
    Requirement,
    Rule,
    RuleReference,
    Selector,
    Tier,
)

THIS_NODE = Selector((Requirement(Reserved.HOST.label, "Exists"),))
"""The subject of rules about this node."""
DELETED_REFERENCES = 4096
"""References kept after their rule, for flows of the recent past."""


class RuleSet(msgspec.Struct, frozen=True, eq=False):
    """One `spec` of one object, compiled; replaced as a whole."""

    rule: Rule
    audit: bool
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
        host_firewall: bool = False,
    ) -> None:
        self._peers, self._subjects = peers, subjects
        self._selectors_of, self._host_firewall = selectors_of, host_firewall
        self._objects: dict[str, tuple[RuleSet, ...]] = {}
        self._atoms: dict[int, Atom] = {}
        self._garbage: list[Atom] = []
        self._cookies = StableIds(first=FIRST_COOKIE, last=0xFFFF_FFFF)
        self._next = 0
        self._revision = 0
        """Of the policies that are being taken in."""
        self.by_selector: dict[int, BitMap] = {}
        """Atoms whose peers a selector selects."""
        self.by_subject: dict[int, list[RuleSet]] = {}
        self.wildcards = BitMap()
        self.denials = BitMap()
        self.baseline = BitMap()
        """Atoms of tier BASELINE, of which a closed direction knows nothing."""
        self.named = BitMap()
        """Atoms with named ports."""
        self._facts: dict[tuple[str, int, int], int] = {}
        self.facts: dict[PortName, BitMap] = {}
        """Atoms that say what a named port means at a peer."""
        self._gone: deque[tuple[RuleReference, bytes]] = deque()
        self._references: dict[int, RuleReference] = {}
        self._told: dict[int, RuleReference | None] = {}
        self.allow_all = self._built_in(NO_DEFAULT_DENY, "no default deny", Level.OPEN, Action.ALLOW)
        self.audited_default_deny = self._built_in(
            AUDITED_DEFAULT_DENY, "audited default deny", Level.CLOSED, Action.DENY
        )

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

    def replace(self, key: str, new: PolicyObject | None, revision: int = 0) -> tuple[list[RuleSet], list[RuleSet]]:
        """(removed, added) rule sets of one object; equal ones stay.

        Atoms of the removed live until `collect`, and their subject's selector until `release_subject`: the policies
        that used them are still to be told.
        """
        self._revision = revision
        old = self._objects.pop(key, ())
        rules = [] if new is None else [_enforceable(rule, self._host_firewall) for rule in new.rules]
        kept: list[RuleSet] = []
        removed: list[RuleSet] = []
        added: list[RuleSet] = []
        for position in range(max(len(old), len(rules))):
            before = old[position] if position < len(old) else None
            if _unchanged(before, new, rules[position] if position < len(rules) else None):
                assert before is not None  # else it would have changed
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
        atom = self._add(Stand(0, Action.ALLOW), selectors=selectors, fact=(name, protocol, port))
        self._facts[name, protocol, port] = atom.id
        self.facts.setdefault((name, protocol), BitMap()).add(atom.id)
        return atom.id, True

    def users(self, selector: int) -> list[RuleReference]:
        """The rules in which a selector of peers stands."""
        cookies = {self._atoms[number].cookie for number in self.by_selector.get(selector, ())}
        return [self._references[cookie] for cookie in sorted(cookies) if cookie in self._references]

    def collect(self) -> None:
        """Forgets removed atoms, once nothing is left to be compiled from them."""
        for atom in self._garbage:
            del self._atoms[atom.id]
            for index in (self.wildcards, self.denials, self.named, self.baseline):
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
        reusable = before.atoms if before is not None and _same_standing(before, rule, new) else {}
        atoms: dict[int, tuple[DirectionRule, int]] = {}
        directions = []
        for elements in (rule.ingress, rule.egress):
            numbers = BitMap()
            for element in elements:
                cookie = self._cookies.get(_name(new.key, position, element))
                known = reusable.get(cookie)
                if known is None or known[0] != element:
                    known = (element, self._atom_of(element, _stand(cookie, new, rule, element)).id)
                atoms[cookie] = known
                numbers.add(known[1])
                self._refer(self._reference(cookie, new, position, rule, element))
            directions.append(numbers)
        rule_set = RuleSet(rule, new.audit, self._subjects.acquire(rule.subject), atoms, *directions)
        self.by_subject.setdefault(rule_set.subject, []).append(rule_set)
        return rule_set

    def _reference(
        self, cookie: int, new: PolicyObject, position: int, rule: Rule, element: DirectionRule
    ) -> RuleReference:
        return RuleReference(
            cookie=cookie,
            kind=new.kind,
            namespace=new.namespace,
            name=new.name,
            section=element.section,
            index=element.index,
            spec=position,
            labels=rule.labels,
            action=element.action,
            rule=element.name,
            revision=self._revision,
            log=rule.log,
        )

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

    def _atom_of(self, element: DirectionRule, stand: Stand) -> Atom:
        boxes, names = boxes_of(element.ports)
        cidrs = (selector for peer in element.peers.cidrs for selector in self._selectors_of(peer))
        numbers = [self._peers.acquire(selector) for selector in dict.fromkeys((*element.peers.selectors, *cidrs))]
        return self._add(stand, selectors=tuple(sorted(numbers)), boxes=boxes, names=names)

    def _built_in(self, cookie: int, name: str, level: Level, action: Action) -> int:
        """The atom of a rule that nobody wrote."""
        self._refer(RuleReference(cookie, "", "", name, "", 0, action=action))
        audit = level is Level.CLOSED
        return self._add(Stand(cookie, action, wildcard=True, level=level, audit=audit), boxes=(ANYTHING,)).id

    def _add(
        self,
        stand: Stand,
        *,
        selectors: tuple[int, ...] = (),
        boxes: tuple[tuple[int, int, int], ...] = (),
        names: Iterable[PortName] = (),
        fact: tuple[str, int, int] | None = None,
    ) -> Atom:
        deny = stand.action is Action.DENY
        plain = stand.level is Level.NORMAL and not stand.audit
        atom = Atom(
            id=self._next,
            cookie=stand.cookie,
            deny=deny,
            wildcard=stand.wildcard,
            selectors=selectors,
            boxes=boxes,
            names=tuple(names),
            fact=fact,
            stand=None if plain else stand,
        )
        self._next += 1
        self._atoms[atom.id] = atom
        for index, belongs in (
            (self.wildcards, stand.wildcard),
            (self.denials, deny),
            (self.named, atom.names),
            (self.baseline, stand.level is Level.BASELINE),
        ):
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


def _enforceable(rule: Rule, host_firewall: bool) -> Rule:
    """A rule about nodes selects no endpoint. Which nodes it selects is settled before (node_rules.py)."""
    if not rule.node_subject:
        return rule
    if host_firewall:
        return msgspec.structs.replace(rule, subject=THIS_NODE)
    return msgspec.structs.replace(rule, ingress=(), egress=(), default_deny_ingress=False, default_deny_egress=False)


def _unchanged(before: RuleSet | None, new: PolicyObject | None, rule: Rule | None) -> bool:
    return before is not None and new is not None and before.rule == rule and before.audit == new.audit


def _same_standing(before: RuleSet, rule: Rule, new: PolicyObject) -> bool:
    """Its elements say the same in the same place, if they are the same."""
    return (before.rule.tier, before.rule.priority, before.audit) == (rule.tier, rule.priority, new.audit)


def _stand(cookie: int, new: PolicyObject, rule: Rule, element: DirectionRule) -> Stand:
    return Stand(
        cookie=cookie,
        action=element.action,
        wildcard=element.peers.wildcard,
        level=LEVELS[rule.tier],
        priority=rule.priority,
        index=element.index,
        object="" if rule.tier is Tier.NORMAL else new.key,
        audit=new.audit,
    )


def _name(key: str, position: int, element: DirectionRule) -> bytes:
    return f"{key}/{position}/{element.section}/{element.index}".encode()


def unenforced(rules: Iterable[Rule], *, host_firewall: bool = False) -> tuple[str, ...]:
    """Paths of everything in these rules that is parsed and not enforced, by this version or with these settings."""
    paths: list[str] = []
    for rule in rules:
        if rule.node_subject and not host_firewall:
            paths.append("nodeSelector (hostFirewall.enabled is false)")
        for element in (*rule.ingress, *rule.egress):
            paths += element.unenforced
    return tuple(paths)
