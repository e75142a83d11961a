"""Label selectors of flow filters, in the syntax of Kubernetes: `app=web,tier!=db,env in (dev, test),!legacy`.

Owns: parsing and matching. A key may carry its source (`k8s:app`, `reserved:host`); without one it matches labels of
every source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_TERM = re.compile(
    r"""\s*(?:
        (?P<negated>!)?\s*(?P<exists>[^\s!=,()]+)
      | (?P<key>[^\s!=,()]+)\s*(?P<operator>==|=|!=)\s*(?P<value>[^\s!=,()]*)
      | (?P<set_key>[^\s!=,()]+)\s+(?P<set_operator>in|notin)\s*\((?P<values>[^()]*)\)
    )\s*(?:,|$)""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Term:
    key: str
    values: frozenset[str] | None
    """None: any value."""
    negated: bool

    def matches(self, labels: Iterable[str]) -> bool:
        found = any(self._hits(label) for label in labels)
        return found != self.negated

    def _hits(self, label: str) -> bool:
        key, _, value = label.partition("=")
        if ":" not in self.key:
            key = key.partition(":")[2] or key
        return key == self.key and (self.values is None or value in self.values)


@dataclass(frozen=True, slots=True)
class LabelSelector:
    terms: tuple[Term, ...]

    def matches(self, labels: Iterable[str]) -> bool:
        """All terms hold for these labels (`source:key=value`)."""
        known = tuple(labels)
        return all(term.matches(known) for term in self.terms)


def parse_selector(text: str) -> LabelSelector:
    """Raises ValueError naming what could not be read."""
    terms: list[Term] = []
    position = 0
    while position < len(text):
        match = _TERM.match(text, position)
        if match is None:
            raise ValueError(f"label selector {text!r}: cannot read {text[position:]!r}")
        terms.append(_term(match))
        position = match.end()
    if not terms:
        raise ValueError("label selector is empty: give key, key=value, key!=value, key in (a, b) or !key")
    return LabelSelector(tuple(terms))


def _term(match: re.Match[str]) -> Term:
    if match["exists"]:
        return Term(match["exists"], None, negated=bool(match["negated"]))
    if match["set_key"]:
        values = frozenset(value.strip() for value in match["values"].split(","))
        return Term(match["set_key"], values, negated=match["set_operator"] == "notin")
    return Term(match["key"], frozenset([match["value"]]), negated=match["operator"] == "!=")
