"""`rewrite`: a question is asked in other words, and its answer comes back under the name that was asked for.

In: queries; rules in their order, of which the first that matches is the last, unless it says `continue`. Out: what the
rest of the chain says to the other question.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import dns.exception
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
from dns.name import Name
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

from kubelab.dns import records
from kubelab.dns.corefile import Directive
from kubelab.dns.plugin import Context, Plugin
from kubelab.dns.records import RRset
from kubelab.dns.wire import Query, Response

_T = TypeVar("_T")
Change = Callable[[str], str | None]
"""A name, in small letters and with its last dot, to another one; None: it does not match."""
KINDS = ("exact", "prefix", "suffix", "substring", "regex")


@dataclass(slots=True)
class _Rule:
    apply: Callable[[Query], Query | None]
    answers: Change | None  # what becomes of the names of answers; None: only the one that was rewritten goes back
    back: bool
    stop: bool


class Rewrite(Plugin):
    """All rules of a server block are the first directive's: which of them holds is one question."""

    name = "rewrite"

    def __init__(self, directive: Directive, context: Context) -> None:
        super().__init__(directive, context)
        rules = context.shared.setdefault(f"rewrite {id(context)}", [])
        assert isinstance(rules, list)
        self._rules: list[_Rule] = [] if rules else rules
        rules.append(self._rule())

    async def serve(self, query: Query) -> Response:
        asked, matched = query, list[_Rule]()
        for rule in self._rules:
            if (changed := rule.apply(query)) is not None:
                query = changed
                matched.append(rule)
                if rule.stop:
                    break
        response = await self.onward(query)
        if not matched:
            return response
        for section in (response.answer, response.additional):
            section[:] = [self._returned(record, query, asked, matched) for record in section]
        return response

    @staticmethod
    def _returned(record: RRset, query: Query, asked: Query, rules: list[_Rule]) -> RRset:
        name = record.name
        for rule in rules:
            if rule.answers is not None and (found := rule.answers(name.to_text().lower())) is not None:
                name = dns.name.from_text(found)
        if name == query.name and any(rule.back for rule in rules):
            name = asked.name
        (copy,) = records.with_ttl([record], record.ttl)
        copy.name = name
        return copy

    def _rule(self) -> _Rule:
        """Raises CorefileError."""
        words = list(self.directive.arguments)
        for line in self.directive.block:  # rewrite { name ...; answer ... }
            words += [line.name, *line.arguments]
        stop = words[:1] != ["continue"]
        if words[:1] in (["stop"], ["continue"]):
            del words[0]
        match words:
            case ["name", *rest]:
                return self._name(rest, stop)
            case ["type", old, new]:
                types = self._known(dns.rdatatype.from_text, old), self._known(dns.rdatatype.from_text, new)
                return _Rule(lambda query: _other_type(query, *types), None, False, stop)
            case ["class", old, new]:
                kinds = self._known(dns.rdataclass.from_text, old), self._known(dns.rdataclass.from_text, new)
                return _Rule(lambda query: _other_class(query, *kinds), None, False, stop)
        raise self.directive.error(
            "write rewrite [continue|stop] name [exact|prefix|suffix|substring|regex] FROM TO [answer ...], "
            "or type FROM TO, or class FROM TO: others are not done here"
        )

    def _name(self, words: list[str], stop: bool) -> _Rule:
        kind = words.pop(0) if words and words[0] in KINDS else "exact"
        if len(words) < 2:
            raise self.directive.error("name: write what to match and what to put in its place")
        change = self._change(kind, *words[:2])
        answers, back = None, kind == "exact"
        match words[2:]:
            case []:
                pass
            case ["answer", "auto"]:
                back = True
            case ["answer", "name", old, new]:
                answers = self._change("regex", old, new)
            case _:
                raise self.directive.error("name: after the names only `answer auto` or `answer name FROM TO`")
        return _Rule(lambda query: _other_name(query, change), answers, back, stop)

    def _change(self, kind: str, old: str, new: str) -> Change:
        """Raises CorefileError."""
        if kind == "regex":
            try:
                pattern = re.compile(old)
            except re.error as error:
                raise self.directive.error(f"invalid regex {old!r}: {error}") from error

            def by_pattern(name: str) -> str | None:
                found = pattern.search(name)
                return None if found is None else re.sub(r"\{(\d+)\}", lambda place: found[int(place[1])] or "", new)

            return by_pattern
        old, full = old.lower(), f"{old.lower().rstrip('.')}."
        return {
            "exact": lambda name: new if name == full else None,
            "prefix": lambda name: new + name.removeprefix(old) if name.startswith(old) else None,
            "suffix": lambda name: name.removesuffix(full) + new if name.endswith(full) else None,
            "substring": lambda name: name.replace(old, new) if old in name else None,
        }[kind]

    def _known(self, parse: Callable[[str], _T], word: str) -> _T:
        try:
            return parse(word)
        except (dns.exception.DNSException, ValueError):
            raise self.directive.error(f"{word!r} is not known") from None


def _other_name(query: Query, change: Change) -> Query | None:
    """Raises DNSException for what is no name."""
    found = change(query.name.to_text().lower())
    return None if found is None else _asking(query, name=dns.name.from_text(found))


def _other_type(query: Query, old: RdataType, new: RdataType) -> Query | None:
    return _asking(query, kind=new) if query.type == old else None


def _other_class(query: Query, old: RdataClass, new: RdataClass) -> Query | None:
    return _asking(query, klass=new) if query.klass == old else None


def _asking(
    query: Query, *, name: Name | None = None, kind: RdataType | None = None, klass: RdataClass | None = None
) -> Query:
    name, kind, klass = name or query.name, kind or query.type, klass or query.klass
    return replace(query, message=dns.message.make_query(name, kind, klass), name=name, type=kind, klass=klass)
