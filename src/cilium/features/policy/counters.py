"""Counters of rules: a row in cilium_policy_counters for every cookie, as long as it has a reference.

In: `rule-references`. Out: rows of the map, which the datapath adds to; what they say, for people. A row that is there
is left as it is: counts outlive the agent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cilium.datapath.generated import POLICY_COUNTER, POLICY_COUNTER_KEY, PolicyCounterWriter
from cilium.datapath.maps import Array, BpfMap, MapWriteError, possible_cpus
from cilium.state.reconciler import Errors
from cilium.tables.rules import RuleReference


class CounterOps:
    """Operations of the `policy-counters` reconciler. The agent is the only one who makes and deletes rows."""

    def __init__(self, counters: BpfMap, *, cpus: int | None = None) -> None:
        self._counters = counters
        self._cpus = cpus
        self._present: set[int] | None = None

    def update(self, rows: Sequence[RuleReference]) -> Errors:
        new = [row.cookie for row in rows if row.cookie not in self._known()]
        if not new:
            return {}
        if self._cpus is None:
            self._cpus = possible_cpus()
        errors: dict[int, Exception] = {}
        try:
            self._counters.update(_keys(new), np.zeros((len(new), self._cpus), POLICY_COUNTER))
        except MapWriteError as error:
            errors = {new[index]: failure for index, failure in error.failures.items()}
        self._known().update(cookie for cookie in new if cookie not in errors)
        return errors

    def delete(self, rows: Sequence[RuleReference]) -> None:
        self._remove([row.cookie for row in rows])

    def prune(self, rows: Sequence[RuleReference]) -> None:
        self._present = None
        self._remove(sorted(self._known() - {row.cookie for row in rows}))

    def _known(self) -> set[int]:
        if self._present is None:
            keys, _ = self._counters.dump()
            self._present = set(keys["cookie"].tolist())
        return self._present

    def _remove(self, cookies: list[int]) -> None:
        if cookies:
            self._counters.delete(np.concatenate([_keys(cookies), _keys(cookies, PolicyCounterWriter.AGENT)]))
            self._known().difference_update(cookies)


def totals(counters: BpfMap) -> dict[int, tuple[int, int]]:
    """(packets, bytes) by cookie, of all processors and of the agent."""
    keys, values = counters.dump()
    cookies, places = np.unique(keys["cookie"], return_inverse=True)
    sums = np.zeros((2, len(cookies)), np.uint64)
    np.add.at(sums[0], places, values["packets"].sum(axis=-1))
    np.add.at(sums[1], places, values["bytes"].sum(axis=-1))
    return dict(zip(cookies.tolist(), zip(*sums.tolist(), strict=True), strict=True))


def _keys(cookies: Sequence[int], writer: int = PolicyCounterWriter.DATAPATH) -> Array:
    keys = np.zeros(len(cookies), POLICY_COUNTER_KEY)
    keys["cookie"], keys["writer"] = cookies, writer
    return keys
