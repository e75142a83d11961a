"""What is wrong with services, as rows that change only where something changed.

In: flaws of an object, and verdicts about keys that it claims. Out: changes of a table of problems. Two rows of one
address, inside and outside, are one problem.
"""

from __future__ import annotations

from collections.abc import Iterable

from cilium.features.services.claims import Verdict, Who, explain, owner_of
from cilium.state import RowChanges
from cilium.tables.problems import Problem, ProblemKey, Reason
from cilium.tables.services import Flaw, FrontendKey


class Findings:
    def __init__(self) -> None:
        self._flaws: dict[Who, tuple[Problem, ...]] = {}
        self._lost: dict[Who, dict[FrontendKey, Problem]] = {}
        self._losers: dict[FrontendKey, frozenset[Who]] = {}
        self._told: dict[Who, dict[ProblemKey, Problem]] = {}
        self._touched: set[Who] = set()

    def flaws(self, service: str, flaws: Iterable[Flaw]) -> None:
        """Those that a Service has from now on."""
        who = ("Service", service)
        found = tuple(problem(who, flaw.field, flaw.message, flaw.reason) for flaw in flaws)
        if found != self._flaws.get(who, ()):
            self._touched.add(who)
            self._flaws[who] = found
            if not found:
                del self._flaws[who]

    def verdict(self, key: FrontendKey, verdict: Verdict | None) -> None:
        """Who claims this key in vain from now on."""
        for who in self._losers.pop(key, ()):
            self._touched.add(who)
            lost = self._lost[who]
            del lost[key]
            if not lost:
                del self._lost[who]
        losers: set[Who] = set()
        for loser in verdict.losers if verdict is not None else ():
            assert verdict is not None
            who = owner_of(loser)
            field, message = explain(verdict.row, loser)
            losers.add(who)
            self._lost.setdefault(who, {})[key] = problem(who, field, message, Reason.CONFLICT)
        if losers:
            self._touched |= losers
            self._losers[key] = frozenset(losers)

    def changes(self) -> RowChanges[ProblemKey, Problem]:
        """Since the last call."""
        upserts: list[Problem] = []
        deletes: list[ProblemKey] = []
        for who in self._touched:
            now = {row.key: row for row in (*self._flaws.get(who, ()), *self._lost.get(who, {}).values())}
            before = self._told.pop(who, {})
            upserts += [row for key, row in now.items() if before.get(key) != row]
            deletes += [key for key in before if key not in now]
            if now:
                self._told[who] = now
        self._touched = set()
        return RowChanges(upserts=upserts, deletes=deletes)


def problem(who: Who, field: str, message: str, reason: Reason) -> Problem:
    kind, full = who
    namespace, _, name = full.partition("/")
    return Problem(kind, namespace, name, field, message, reason)
