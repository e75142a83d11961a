"""Writes `policy-map` into cilium_policy and cilium_policy_class.

In: entries and classes, in one round. Out: map elements; an error per row that could not be written.

Nothing is let through by half of a change:
- classes are written before the entries that name them, and an entry whose class is incomplete is not written;
- the entry for everyone else (identity 0) is written after all other entries of its policy, and not while one fails:
  the missing one might be a denial;
- what the datapath may still look at is deleted later, by `sweep`: entries of a policy that an endpoint still has,
  classes that an entry still names.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from cilium.datapath.maps import Array, BpfMap, MapWriteError
from cilium.features.policy.encode import class_rows, entry_keys, entry_numbers, entry_values, whole
from cilium.features.policy.rows import PolicyClass, PolicyEntry, PolicyMapRow
from cilium.state.reconciler import Errors
from cilium.tables.identities import Reserved

SWEEP_INTERVAL = 0.1
"""Seconds between two looks at what waits for deletion, while something does."""
COMPARE = 1024
"""The first batch and those of at least this many rows are compared with the maps first: a restart and a refresh
change little."""

Failures = dict[int, Exception]


class Epoch(Protocol):
    def advance(self) -> None:
        """Has every tracked connection judged anew."""


class PolicyMaps:
    """Operations of the `policy-map` reconciler (order: updates first). `wanted` says which policies endpoints are to
    have; `endpoints` is cilium_lxc, which says which they do have."""

    def __init__(
        self, *, entries: BpfMap, classes: BpfMap, endpoints: BpfMap, epoch: Epoch, wanted: Callable[[], set[int]]
    ) -> None:
        self._entries, self._classes, self._endpoints = entries, classes, endpoints
        self._epoch, self._wanted = epoch, wanted
        self._incomplete: set[int] = set()
        self._failing: dict[int, dict[int, int]] = defaultdict(dict)
        """Per policy: keys of entries that could not be written, and the class the kernel has for them."""
        self._waiting_entries: dict[int, int] = {}
        """Keys of entries to delete once no endpoint has their policy, and the class the kernel has for them."""
        self._waiting_classes: dict[int, PolicyClass | None] = {}
        """Classes to delete once no entry names them; None: known from the kernel only."""
        self._work = asyncio.Event()
        self._changed = False
        self._compare = True

    # -------------------------------------------------------------------------------------------------- operations

    def update(self, rows: Sequence[PolicyMapRow]) -> Errors:
        self._compare |= len(rows) >= COMPARE
        errors = self._write_classes([row for row in rows if isinstance(row, PolicyClass)])
        entries = [row for row in rows if isinstance(row, PolicyEntry)]
        for row in entries:
            self._waiting_entries.pop(row.key, None)
        rest = int(Reserved.UNKNOWN)
        errors |= self._write_entries([row for row in entries if row.identity != rest])
        errors |= self._write_entries([row for row in entries if row.identity == rest])
        self._judge_anew()
        self._compare = False
        return errors

    def delete(self, rows: Sequence[PolicyMapRow]) -> Errors:
        entries = [row for row in rows if isinstance(row, PolicyEntry)]
        for row in entries:
            self._failing[row.policy].pop(row.key, None)
        held = self._held()
        for row in entries:
            if row.policy in held:
                self._waiting_entries[row.key] = row.class_id
        errors = self._delete_entries([row.key for row in entries if row.policy not in held])
        self._waiting_classes |= {row.id: row for row in rows if isinstance(row, PolicyClass)}
        self._judge_anew()
        self._work.set()
        return errors

    def prune(self, rows: Sequence[PolicyMapRow]) -> None:
        """What an earlier life of the agent left behind."""
        keep = {row.key for row in rows}
        keys, classes = self._entries.dump()
        held = self._held()
        stale = []
        for number, class_id in zip(entry_numbers(keys), classes.tolist(), strict=True):
            if number not in keep:
                if number >> 32 in held:
                    self._waiting_entries[number] = class_id
                else:
                    stale.append(number)
        self._delete_entries(stale)
        keys, _ = self._classes.dump()
        wanted = {row.id: row for row in rows if isinstance(row, PolicyClass)}
        self._waiting_classes |= dict.fromkeys(set(np.unique(keys["class"]).tolist()) - wanted.keys())
        self._delete_foreign(keys, wanted.values())
        self._judge_anew()
        self._work.set()

    # ------------------------------------------------------------------------------------------------------- sweep

    async def sweep(self) -> None:
        """The task: deletes what had to wait. The interval also lets packets pass that are between two lookups."""
        while True:
            await self._work.wait()
            await asyncio.sleep(SWEEP_INTERVAL)
            self.sweep_once()
            if not self._waiting_entries and not self._waiting_classes:
                self._work.clear()

    def sweep_once(self) -> None:
        """Deletes what the datapath does not look at any more."""
        if self._waiting_entries:
            held = self._held()
            free = [number for number in self._waiting_entries if number >> 32 not in held]
            failed = self._delete_entries(free)
            for number in free:
                if number not in failed:
                    del self._waiting_entries[number]
        self._sweep_classes()
        self._judge_anew()

    def _held(self) -> set[int]:
        """Policies that an endpoint has in the kernel and is about to lose."""
        _, endpoints = self._endpoints.dump()
        present = np.union1d(endpoints["ingress_policy"], endpoints["egress_policy"])
        return set(present.tolist()) - self._wanted()

    def _sweep_classes(self) -> None:
        named = set(self._waiting_entries.values())
        for failing in self._failing.values():
            named.update(failing.values())
        free = [number for number in self._waiting_classes if number not in named]
        if not free:
            return
        known = [row for number in free if (row := self._waiting_classes[number]) is not None]
        keys, _ = class_rows(known)
        unknown = [number for number in free if self._waiting_classes[number] is None]
        if unknown:
            present, _ = self._classes.dump()
            keys = np.concatenate([keys, present[np.isin(present["class"], unknown)]])
        left = {int(keys["class"][index]) for index in _delete(self._classes, keys)}
        for number in free:
            if number not in left:
                del self._waiting_classes[number]

    # ------------------------------------------------------------------------------------------------------ writing

    def _write_classes(self, rows: Sequence[PolicyClass]) -> Failures:
        """A class is whole or an error."""
        again = [row for row in rows if row.id in self._waiting_classes]
        if again:  # the number may have been another's
            self._delete_foreign(self._classes.dump()[0], again)
        for row in again:
            del self._waiting_classes[row.id]
        keys, values = class_rows(rows)
        failures = self._update(self._classes, keys, values)
        errors = {int(keys["class"][index]): error for index, error in failures.items()}
        self._incomplete.difference_update(row.id for row in rows)
        self._incomplete.update(errors)
        return errors

    def _write_entries(self, rows: Sequence[PolicyEntry]) -> Failures:
        errors: Failures = {}
        ready = []
        for row in rows:
            if row.class_id in self._incomplete:
                errors[row.key] = IncompleteError(f"class {row.class_id} is not complete in cilium_policy_class")
            elif int(row.identity) == Reserved.UNKNOWN and any(key != row.key for key in self._failing[row.policy]):
                errors[row.key] = IncompleteError(f"waits for other entries of policy {row.policy}")
            else:
                ready.append(row)
        keys = entry_keys([row.key for row in ready])
        for index, error in self._update(self._entries, keys, entry_values(ready)).items():
            errors[ready[index].key] = error
        for row in rows:
            self._failing[row.policy].pop(row.key, None)
        self._note_failing(list(errors))
        return errors

    def _note_failing(self, numbers: list[int]) -> None:
        """What the kernel has for entries that failed stays in use."""
        if not numbers:
            return
        present, found = self._entries.lookup(entry_keys(numbers))
        for number, class_id, there in zip(numbers, present.tolist(), found.tolist(), strict=True):
            self._failing[number >> 32][number] = class_id if there else 0

    def _delete_entries(self, numbers: Sequence[int]) -> Failures:
        if not numbers:
            return {}
        failures = _delete(self._entries, entry_keys(numbers))
        self._changed = True
        return {numbers[index]: error for index, error in failures.items()}

    def _delete_foreign(self, present: Array, classes: Iterable[PolicyClass]) -> None:
        """Removes what bears the number of one of these classes and is not part of it."""
        rows = list(classes)
        mine = present[np.isin(present["class"], [row.id for row in rows])]
        wanted = set(whole(class_rows(rows)[0]))
        _delete(self._classes, mine[[index for index, key in enumerate(whole(mine)) if key not in wanted]])

    def _update(self, port: BpfMap, keys: Array, values: Array) -> Failures:
        """Writes what differs; errors by index."""
        indexes = np.arange(len(keys))
        if self._compare and len(keys):
            present = set(whole(*port.dump()))
            different = [index for index, row in enumerate(whole(keys, values)) if row not in present]
            indexes = np.array(different, dtype=np.intp)
        if not len(indexes):
            return {}
        self._changed = True
        try:
            port.update(keys[indexes], values[indexes])
        except MapWriteError as error:
            return {int(indexes[index]): failure for index, failure in error.failures.items()}
        return {}

    def _judge_anew(self) -> None:
        if self._changed:
            self._changed = False
            self._epoch.advance()


class IncompleteError(Exception):
    """A row is not written because one it depends on is not."""


def _delete(port: BpfMap, keys: Array) -> dict[int, Exception]:
    """Errors by index."""
    if not len(keys):
        return {}
    try:
        port.delete(keys)
    except MapWriteError as error:
        return dict(error.failures)
    return {}
