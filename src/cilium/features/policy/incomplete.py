"""Policy objects that the kernel's maps do not hold in full, because a map is full or refuses.

In: `policy-map` and how far the kernel follows it, `rule-references`. Out: `policy-problems`, a row per object
concerned: those whose rules decide in a class that is missing, or that lacks members. What is missing stays closed,
and is tried again until it fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cilium.features.policy.rows import PolicyClass
from cilium.state import RowChanges, View
from cilium.state.status import Kind, RowStatus
from cilium.tables.problems import Problem, ProblemKey, Reason

CLASS = 0xFFFF_FFFF
"""The part of a key of `policy-map` that is the class."""
CONSEQUENCES = ("waits for ", "class ")
"""Errors of rows that only lack another row."""
FIELD = "spec"


class Incomplete:
    """`compute` is the compute function of one derivation."""

    def __init__(self) -> None:
        self._failing: dict[int, str] = {}
        self._known: set[ProblemKey] = set()

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        for change in view.changes["policy-map-status"]:
            status: RowStatus[int] | None = change.new
            if status is not None and status.kind is Kind.ERROR:
                self._failing[change.key] = status.error
            elif status is None or status.kind is Kind.DONE:
                self._failing.pop(change.key, None)
        rows = {problem.key: problem for problem in self._problems(view)} if self._failing else {}
        gone, self._known = self._known - rows.keys(), set(rows)
        return {"policy-problems": RowChanges(upserts=list(rows.values()), deletes=sorted(gone))}

    def _problems(self, view: View) -> Iterable[Problem]:
        classes, references = view.snapshots["policy-map"], view.snapshots["rule-references"]
        reasons: dict[tuple[str, str, str], list[str]] = {}
        for key, error in sorted(self._failing.items()):
            row = classes.get(key & CLASS)
            if not isinstance(row, PolicyClass):
                continue
            for cookie in sorted({verdict.cookie for verdict in row.verdicts}):
                rule = references.get(cookie)
                if rule is not None and rule.section:
                    reasons.setdefault((rule.kind, rule.namespace, rule.name), []).append(error)
        for (kind, namespace, name), errors in reasons.items():
            causes = [error for error in errors if not error.startswith(CONSEQUENCES)]
            message = (
                f"the kernel did not take all of it, so old verdicts stay and nothing opens: {(causes or errors)[0]}"
            )
            yield Problem(kind, namespace, name, FIELD, message, Reason.INCOMPLETE)
