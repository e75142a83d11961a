"""Writes `frontends` into the maps of services.

Order of writing: backends, slots, lists and tables, service rows; what a row left behind is taken away after it has
flipped from its old slots to its new ones in one write, and rests before it is used again. Backends that nobody names
any more are zeroed. Nothing is written that the kernel has already. What does not fit or fails is the error of its row,
which stays as it was; others are not disturbed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence

import numpy as np

from cilium.datapath.errors import MapFull
from cilium.datapath.generated import SERVICE, ServiceFlags
from cilium.datapath.maps import BpfMap, MapWriteError
from cilium.datapath.nested import NestedMap
from cilium.features.services.listed import Listing, ServiceLists
from cilium.features.services.maglev import Maglev
from cilium.features.services.maglev_map import MaglevTables
from cilium.features.services.plan import Change, Failures, Planner, Writes
from cilium.features.services.records import place_of, raw, service_keys
from cilium.features.services.space import NoRoomError
from cilium.features.services.state import KnownRow, ServiceState
from cilium.state.reconciler import Errors
from cilium.tables.services import Frontend, Scope

STEP = 1024
"""So many rows are worked on at once: memory that ten thousand take for a moment would stay with the process."""

TABLES = 64
"""So many services get their tables at once."""


def parts(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    """Those first that wait for no table; the others in tens, beside those with whom they share."""
    yield [change for change in changes if not change.table]
    tabled = sorted((change for change in changes if change.table), key=lambda change: change.table)
    for at in range(0, len(tabled), TABLES):
        yield tabled[at : at + TABLES]


class ServiceMaps:
    """Operations of the `services` reconciler. `maps` and `nested`: by name, those that are pinned; `clock`: seconds,
    by which rests what nobody names any more.
    """

    def __init__(
        self,
        *,
        maps: Mapping[str, BpfMap],
        nested: Mapping[str, NestedMap],
        maglev: Maglev,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._services, self._slots = maps["cilium_lb_services"], maps["cilium_lb_slots"]
        self._backends = maps["cilium_lb_backends"]
        self._state = ServiceState(services=self._services, slots=self._slots, backends=self._backends, clock=clock)
        self._lists = ServiceLists(
            match=maps["cilium_lb_affinity_match"],
            ranges=maps["cilium_lb_source_ranges"],
            skip=maps["cilium_lb_skip"],
        )
        self._tables = MaglevTables(nested["cilium_lb_maglev"], maglev, names=self._state.public_names)
        self._planner = Planner(self._state, self._lists)
        self._left: dict[int, tuple[Hashable, Listing]] = {}
        """Ids whose rows are gone and of which something may be left: whose they were, and what to take away."""
        self._outdated: list[KnownRow] = []
        """What rows were before the present operation."""
        self._known = False
        """Whether the books say what the maps hold."""

    def update(self, rows: Sequence[Frontend]) -> Errors:
        self._read()
        self._known = False  # until all is written: whatever interrupts leaves books to be read anew
        errors: Failures = {}
        for at in range(0, len(rows), STEP):
            self._update(rows[at : at + STEP], errors)
        self._finish(errors)
        return errors

    def delete(self, rows: Sequence[Frontend]) -> Errors:
        self._read()
        self._known = False
        failures: Mapping[int, Exception] = {}
        try:
            self._services.delete(service_keys(rows))
        except MapWriteError as error:
            failures = error.failures
        for index, name in enumerate(raw(service_keys(rows))):
            if index not in failures:
                self._forget(name, rows[index])
        errors: Failures = {rows[index].key: failure for index, failure in failures.items()}
        self._finish(errors)
        return errors

    def prune(self, rows: Sequence[Frontend]) -> Errors:
        """Also reads the books anew: what others have changed is found, and made good by the updates that follow."""
        self._known = False
        present = self._state.read(self._read_others())
        wanted = set(raw(service_keys(rows)))
        stale = [index for index, name in enumerate(raw(present)) if name not in wanted]
        if stale:
            self._services.delete(present[stale])
            for name in raw(present[stale]):
                self._forget(name)
        self._state.adopt(rows)
        live = {row.id for row in self._state.rows.values()}
        strangers = (self._lists.numbers() | self._tables.services()) - live
        nobodys: dict[int, tuple[Hashable, Listing]] = {number: (None, Listing.of(number)) for number in strangers}
        self._left = nobodys | {number: left for number, left in self._left.items() if number not in live}
        errors: Failures = {}
        self._finish(errors)
        places = {place_of(row) for row in rows if row.scope is Scope.CLUSTER}
        return errors | self._lists.clear_places(places)

    def _update(self, rows: Sequence[Frontend], errors: Failures) -> None:
        writes = Writes()
        changes = list(self._planner.changes(rows, writes, errors))
        writes.write(self._slots, self._backends)
        wrong = [change for change in changes if not self._right(change)]
        for change in changes:
            if self._right(change):
                self._settle(change)
        for part in parts(wrong):
            self._apply(part, errors)

    def _read(self) -> None:
        if not self._known:
            self._state.read(self._read_others())
            self._known = True

    def _read_others(self) -> set[int]:
        """The ids of which the other maps speak; their books are read anew, too."""
        self._outdated.clear()
        self._lists.read()
        self._tables.read()
        return self._lists.numbers() | self._tables.services() | self._left.keys()

    def _right(self, change: Change) -> bool:
        """Whether nothing has to be written."""
        return (
            not change.flips and self._lists.right(change.listing) and self._tables.right(change.new.id, change.table)
        )

    def _finish(self, errors: Failures) -> None:
        """What nobody names any more goes, and all is known again. Not before the last row is written: it might name
        what the first has let go.
        """
        for old in self._outdated:
            self._state.release(old.slots, old.draining)
        self._outdated.clear()
        self._sweep(errors)
        self._state.zero_dropped()
        self._known = True

    # ------------------------------------------------------------------------------------------------------- writing

    def _apply(self, changes: Sequence[Change], errors: Failures) -> None:
        added = self._lists.add({place: change.listing for place, change in enumerate(changes)})
        failed = added.errors
        tables = {change.new.id: place for place, change in enumerate(changes) if change.table and place not in failed}
        refused = self._tables.write({number: changes[place].table for number, place in tables.items()})
        failed |= {tables[number]: error for number, error in refused.items()}
        failed |= self._flip({place: each for place, each in enumerate(changes) if each.flips and place not in failed})
        added.undo(failed)
        self._restore([changes[place] for place in failed])
        for place, error in failed.items():
            errors[changes[place].row.key] = error
        done = {place: change for place, change in enumerate(changes) if place not in failed}
        for change in done.values():
            self._settle(change)
        surplus = self._lists.trim({place: change.listing for place, change in done.items()})
        errors |= {done[place].row.key: error for place, error in surplus.items()}
        keys = {change.new.id: change.row.key for change in done.values() if not change.table}
        errors |= {keys[number]: error for number, error in self._tables.remove(keys).items()}

    def _flip(self, changes: Mapping[int, Change]) -> dict[int, Exception]:
        """Rows to what they say now, each in one write; the failures."""
        places, state = list(changes), self._state
        new = [changes[place].new for place in places]
        values = np.zeros(len(places), dtype=SERVICE)
        values["id"] = [row.id for row in new]
        values["slots"] = [state.ranges[row.slots].start if row.slots else 0 for row in new]
        values["count"] = [len(row.slots) for row in new]
        values["flags"] = [row.flags for row in new]
        values["affinity_timeout"] = [row.affinity for row in new]
        try:
            self._services.update(service_keys([changes[place].row for place in places]), values)
        except MapWriteError as error:
            return {places[index]: self._explained(failure) for index, failure in error.failures.items()}
        return {}

    def _settle(self, change: Change) -> None:
        """The kernel has it: what the row named before is to be let go."""
        self._state.rows[change.name] = change.new
        if change.old is not None:
            self._outdated.append(change.old)
            if change.old.id != change.new.id:
                self._left[change.old.id] = (change.row.key, Listing.of(change.old.id))

    def _restore(self, changes: Collection[Change]) -> None:
        """What could not be written is as it was before."""
        for change in changes:
            self._state.release(change.new.slots, change.new.draining)
            if change.old is None or change.old.id != change.new.id:
                self._left[change.new.id] = (change.row.key, Listing.of(change.new.id))
        records = self._state.records.keys()
        # Of a backend whose record somebody took away, nothing is known that a table could be made of.
        olds = [change.old for change in changes if change.old is not None and records >= set(change.old.slots)]
        # Before what only the new tables name is zeroed. If that fails too, the next attempt writes the new ones.
        self._tables.write({old.id: old.slots for old in olds if old.flags & ServiceFlags.MAGLEV})

    def _forget(self, name: bytes, row: Frontend | None = None) -> None:
        """The service is gone from the kernel; what else there is of it goes with the next sweep."""
        old = self._state.forget(name)
        if old is not None:
            self._left[old.id] = (row.key if row else None, Listing.of(old.id, row))

    def _sweep(self, errors: Failures) -> None:
        """Takes away what is left of ids that are no more; then they are free."""
        if not self._left:
            return
        failures = self._lists.trim({number: listing for number, (_, listing) in self._left.items()})
        failures |= self._tables.remove(self._left)
        for number, (key, _) in list(self._left.items()):
            if number in failures:
                errors.setdefault(key, failures[number])
            else:
                del self._left[number]
                self._state.free_id(number)

    def _explained(self, error: Exception) -> Exception:
        if not isinstance(error, MapFull):
            return error
        spec = self._services.spec
        return NoRoomError(spec.name, spec.max_entries, "raise bpf.lbMapMax")


class OffLoop:
    """The same operations in a thread: with ten thousand services a round takes a second, and the agent has other
    things to do. A reconciler waits for one before it calls the next, so they never meet.
    """

    def __init__(self, maps: ServiceMaps) -> None:
        self._maps = maps

    async def update(self, rows: Sequence[Frontend]) -> Errors:
        return await asyncio.to_thread(self._maps.update, rows)

    async def delete(self, rows: Sequence[Frontend]) -> Errors:
        return await asyncio.to_thread(self._maps.delete, rows)

    async def prune(self, rows: Sequence[Frontend]) -> Errors:
        return await asyncio.to_thread(self._maps.prune, rows)
