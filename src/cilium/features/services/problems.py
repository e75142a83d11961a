"""Everything that is wrong with services, in one table.

In: tables of problems that derivations found, each by its own name; `frontends`, and what the reconciler of frontends
says of each row (`services-status`). Out: `service-problems`, which the status shows and Events tell.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from cilium.features.services.claims import owner_of
from cilium.features.services.findings import problem
from cilium.state import Kind, RowChanges, RowStatus, View
from cilium.tables.problems import Problem, ProblemKey, Reason
from cilium.tables.services import Frontend, FrontendKey

STATUS = "services-status"


class Problems:
    """The derivation. `found`: names of inputs whose rows are problems."""

    def __init__(self, found: Sequence[str]) -> None:
        self._found = tuple(found)
        self._keys: dict[Hashable, ProblemKey] = {}
        """By where it comes from."""
        self._rows: dict[ProblemKey, dict[Hashable, Problem]] = {}

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        touched: set[ProblemKey] = set()
        for name in self._found:
            for change in view.changes[name]:
                touched |= self._put((name, change.key), change.new)
        for change in view.changes[STATUS]:
            if not _tried_again(view, change.key, change.new):
                touched |= self._put((STATUS, change.key), _failure(view, change.key, change.new))
        upserts = [next(iter(self._rows[key].values())) for key in touched if key in self._rows]
        deletes = [key for key in touched if key not in self._rows]
        return {"service-problems": RowChanges(upserts=upserts, deletes=deletes)}

    def _put(self, source: Hashable, row: Problem | None) -> set[ProblemKey]:
        """What a source says now; the keys that it touches."""
        touched = set()
        old = self._keys.pop(source, None)
        if old is not None:
            touched.add(old)
            rows = self._rows[old]
            del rows[source]
            if not rows:
                del self._rows[old]
        if row is not None:
            touched.add(row.key)
            self._keys[source] = row.key
            self._rows.setdefault(row.key, {})[source] = row
        return touched


def _tried_again(view: View, key: FrontendKey, status: RowStatus[FrontendKey] | None) -> bool:
    """A row that failed fails until it has succeeded: what an attempt is for is neither gone nor told anew."""
    return status is not None and status.kind is Kind.PENDING and key in view.snapshots["frontends"]


def _failure(view: View, key: FrontendKey, status: RowStatus[FrontendKey] | None) -> Problem | None:
    """A row that the kernel did not take; one of an object stands for all that it has."""
    if status is None or status.kind is not Kind.ERROR:
        return None
    row: Frontend | None = view.snapshots["frontends"].get(key)
    if row is None:
        return None
    message = f"{row.address} {row.port}/{row.protocol} is not served as it should be: {status.error}"
    return problem(owner_of(row), "addresses", message, Reason.NOT_PROGRAMMED)
