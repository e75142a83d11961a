"""Which members a selector selects, and which selectors select a member; both at once, kept up to date.

In: members (numbers: identities, or subjects of policies) with security labels; selectors. Out: a bitmap of members
per selector.

An inverted index maps every label to the members that carry it: a new selector is a few operations on bitmaps. For a
new member the selectors are indexed too, each under one label it cannot do without: only those are tested that the
member's own labels name.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyroaring import BitMap

from cilium.tables.labels import CLUSTER, NAMESPACE
from cilium.tables.rules import Requirement, Selector
from cilium.tables.types import Labels

Term = str
"""`source:key` or `source:key=value`; source `any` stands for every source."""
Terms = frozenset[Term]

_COMMON = (NAMESPACE, CLUSTER)
"""Labels that so many selectors name that they tell little."""
_UNNAMED = ("cidr", "named-port")
"""Sources that `any` does not mean."""


def terms_of(labels: Iterable[str]) -> Terms:
    """Everything a requirement may ask of a member with these labels."""
    terms = []
    for label in labels:
        name, _, value = label.partition("=")
        terms += [name, f"{name}={value}"]
        source, _, key = name.partition(":")
        if source not in _UNNAMED:
            terms += [f"any:{key}", f"any:{key}={value}"]
    return frozenset(terms)


class _Selector:
    """A selector in use, taken apart so that a test is a few operations on sets."""

    __slots__ = ("alternatives", "anchors", "excluded", "members", "number", "others", "required", "selector", "uses")

    def __init__(self, number: int, selector: Selector) -> None:
        self.number = number
        self.selector = selector
        self.uses = 0
        positive = [_terms(r) for r in selector.requirements if r.operator in {"In", "Exists"}]
        negative = [_terms(r) for r in selector.requirements if r.operator not in {"In", "Exists"}]
        self.required: Terms = frozenset().union(*(terms for terms in positive if len(terms) == 1))
        """All of these terms are present."""
        self.alternatives = [terms for terms in positive if len(terms) != 1]
        """One of each set is present."""
        self.excluded: Terms = frozenset().union(*negative)
        """None of these is present."""
        self.anchors: Terms = _anchors(selector)
        self.others = [terms for terms in self.alternatives if terms != self.anchors]
        self.members = BitMap()

    def matches(self, terms: Terms) -> bool:
        """Whether it selects a member that has one of the anchors (if there are any)."""
        if not self.required <= terms or (self.excluded and not self.excluded.isdisjoint(terms)):
            return False
        return not self.others or not any(wanted.isdisjoint(terms) for wanted in self.others)


def _terms(requirement: Requirement) -> Terms:
    if requirement.operator in {"In", "NotIn"}:
        return frozenset(f"{requirement.key}={value}" for value in requirement.values)
    return frozenset({requirement.key})


def _anchors(selector: Selector) -> Terms:
    """The terms of the most telling positive requirement; empty if there is none."""
    positive = [r for r in selector.requirements if r.operator in {"In", "Exists"}]
    if not positive:
        return frozenset()
    return _terms(min(positive, key=lambda r: (r.key.endswith(_COMMON), r.operator == "Exists", len(r.values))))


class SelectorCache:
    """Members and selectors, incrementally. Selectors are shared: `acquire` and `release` count their uses."""

    def __init__(self) -> None:
        self._terms: dict[int, Terms] = {}
        self._everyone = BitMap()
        self._index: dict[Term, BitMap] = {}
        self._numbers: dict[Selector, int] = {}
        self._selectors: dict[int, _Selector] = {}
        self._anchored: dict[Term, dict[int, _Selector]] = {}
        self._unanchored: dict[int, _Selector] = {}
        self._next = 0
        self._recent: dict[int, list[_Selector]] = {}
        """What was found out about a member and is likely to be asked next; void when selectors change."""

    def __contains__(self, member: int) -> bool:
        return member in self._terms

    def acquire(self, selector: Selector) -> int:
        """The number of the selector, evaluated on first use."""
        number = self._numbers.get(selector)
        if number is None:
            self._recent.clear()
            number = self._numbers[selector] = self._next
            self._next += 1
            entry = self._selectors[number] = _Selector(number, selector)
            entry.members = self._evaluate(entry)
            for term in entry.anchors:
                self._anchored.setdefault(term, {})[number] = entry
            if not entry.anchors:
                self._unanchored[number] = entry
        self._selectors[number].uses += 1
        return number

    def release(self, number: int) -> None:
        entry = self._selectors[number]
        entry.uses -= 1
        if entry.uses:
            return
        self._recent.clear()
        del self._selectors[number], self._numbers[entry.selector]
        self._unanchored.pop(number, None)
        for term in entry.anchors:
            del self._anchored[term][number]
            if not self._anchored[term]:
                del self._anchored[term]

    def used(self) -> Iterable[tuple[int, Selector, int]]:
        """(number, selector, uses) of every selector."""
        return [(entry.number, entry.selector, entry.uses) for entry in self._selectors.values()]

    def members(self, number: int) -> BitMap:
        """Live: changes with the members; not to be written."""
        return self._selectors[number].members

    def selecting(self, member: int) -> list[int]:
        """Numbers of the selectors that select a member; none if there is no such member."""
        terms = self._terms.get(member)
        if terms is None:
            return []
        if member not in self._recent:
            self._recent[member] = self._matching(terms)
        return [entry.number for entry in self._recent.pop(member)]

    def upsert(self, member: int, labels: Labels) -> bool:
        """Whether the member is new or its labels have changed."""
        terms = terms_of(labels)
        old = self._terms.get(member)
        if old == terms:
            return False
        if old is not None:
            self._drop(member, old - terms)
            for entry in self._matching(old):
                entry.members.discard(member)
        self._terms[member] = terms
        self._everyone.add(member)
        for term in terms - (old or frozenset()):
            bitmap = self._index.get(term)
            if bitmap is None:
                bitmap = self._index[term] = BitMap()
            bitmap.add(member)
        self._recent[member] = self._matching(terms)
        for entry in self._recent[member]:
            entry.members.add(member)
        return True

    def remove(self, member: int) -> bool:
        """Whether the member was there."""
        terms = self._terms.pop(member, None)
        if terms is None:
            return False
        self._everyone.discard(member)
        self._recent.pop(member, None)
        self._drop(member, terms)
        for entry in self._matching(terms):
            entry.members.discard(member)
        return True

    def _drop(self, member: int, terms: Iterable[Term]) -> None:
        for term in terms:
            bitmap = self._index[term]
            bitmap.discard(member)
            if not bitmap:
                del self._index[term]

    def _matching(self, terms: Terms) -> list[_Selector]:
        found = [entry for entry in self._unanchored.values() if entry.matches(terms)]
        seen: set[int] = set()
        for term in terms & self._anchored.keys():
            for number, entry in self._anchored[term].items():
                if number not in seen:
                    seen.add(number)
                    if entry.matches(terms):
                        found.append(entry)
        return found

    def _evaluate(self, entry: _Selector) -> BitMap:
        """What must be present first: it makes the set small."""
        result: BitMap | None = None
        for wanted in (*({term} for term in entry.required), *entry.alternatives):
            carriers = self._carriers(wanted)
            result = carriers.copy() if result is None else result & carriers
        if result is None:
            result = self._everyone.copy()
        return result - self._carriers(entry.excluded) if entry.excluded else result

    def _carriers(self, terms: Iterable[Term]) -> BitMap:
        """Members that have one of these terms."""
        bitmaps = [bitmap for term in terms if (bitmap := self._index.get(term)) is not None]
        if len(bitmaps) == 1:
            return bitmaps[0]
        return BitMap.union(*bitmaps) if bitmaps else BitMap()
