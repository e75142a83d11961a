"""From rows to changes: ids, slots and records, before anything is written.

In: rows of `frontends`, and the books. Out: `Change`s, whose slots and backends are in use from here on, and what is to
be added to the arrays first. A row for which there is no room is an error, and nothing is taken for it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cilium.datapath.generated import BACKEND, ServiceFlags
from cilium.datapath.maps import BpfMap
from cilium.features.services.listed import Listing, ServiceLists
from cilium.features.services.records import Ids, backend_records, flags_of, identity, raw, service_keys, slots_of
from cilium.features.services.space import NoRoomError
from cilium.features.services.state import KnownRow, ServiceState, SlotRange
from cilium.tables.services import Frontend

Failures = dict[Hashable, Exception]


class Writes:
    """What one batch adds to the arrays, to be written at once."""

    def __init__(self) -> None:
        self.backends: dict[int, bytes] = {}
        self.slots: list[tuple[int, Ids]] = []

    def write(self, slots: BpfMap, backends: BpfMap) -> None:
        if self.backends:
            keys = np.fromiter(self.backends, dtype=np.uint32, count=len(self.backends))
            backends.update(keys, np.frombuffer(b"".join(self.backends.values()), dtype=BACKEND))
        if self.slots:
            indexes = [np.arange(start, start + len(ids), dtype=np.uint32) for start, ids in self.slots]
            values = [np.array(ids, dtype=np.uint32) for _, ids in self.slots]
            slots.update(np.concatenate(indexes), np.concatenate(values))


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a row: from `old`, which None had, to `new`."""

    row: Frontend
    name: bytes
    """Its key in the map."""
    old: KnownRow | None
    new: KnownRow
    listing: Listing

    @property
    def table(self) -> Ids:
        """Slots that the service's table is made of; empty: it has none."""
        return self.new.slots if self.new.flags & ServiceFlags.MAGLEV else ()

    @property
    def flips(self) -> bool:
        old, new = self.old, self.new
        return old is None or (old.id, old.slots, old.flags, old.affinity) != (
            new.id,
            new.slots,
            new.flags,
            new.affinity,
        )


class Planner:
    def __init__(self, state: ServiceState, lists: ServiceLists) -> None:
        self._state, self._lists = state, lists

    def changes(self, rows: Sequence[Frontend], writes: Writes, errors: Failures) -> Iterator[Change]:
        """For every row that has room, also for one that stays as it is."""
        names = raw(service_keys(rows))
        for index, slots, draining in self._place(rows, writes, errors):
            row, name = rows[index], names[index]
            old, flags = self._state.rows.get(name), flags_of(row, bool(slots))
            new = KnownRow(self._number(old, flags), slots, flags, row.affinity_timeout, draining)
            yield Change(row, name, old, new, self._lists.listing(row, new.id, slots))

    def _number(self, old: KnownRow | None, flags: int) -> int:
        """A service keeps its id, but for one case: of one list of ranges it cannot be said at the same time that only
        they may ask and that they may not, so the other list is that of another id.
        """
        if old is None:
            return self._state.new_id()
        turned = old.flags & flags & ServiceFlags.SOURCE_CHECK and (old.flags ^ flags) & ServiceFlags.SOURCE_DENY
        return self._state.new_id() if turned else old.id

    def _place(self, rows: Sequence[Frontend], writes: Writes, errors: Failures) -> Iterator[tuple[int, Ids, Ids]]:
        """For every row that gets them: slots in a range and backends that only have a record, already in use."""
        state = self._state
        records = backend_records(rows)
        words = raw(records)
        names = identity(records, words)
        at = 0
        for index, row in enumerate(rows):
            part, at = range(at, at + len(row.backends)), at + len(row.backends)
            fresh: list[int] = []
            try:
                ids = tuple(self._backend(names[place], words[place], writes, fresh) for place in part)
                slots = slots_of(row, ids)
                if slots and slots not in state.ranges:
                    state.ranges[slots] = SlotRange(state.slot_space.allocate(len(slots)))
                    writes.slots.append((state.ranges[slots].start, slots))
            except NoRoomError as error:
                for number in fresh:
                    writes.backends.pop(number, None)
                    state.drop_backend(number)
                errors[row.key] = error
                continue
            draining = () if slots is ids else tuple(set(ids) - set(slots))
            state.use(slots, draining)
            yield index, slots, draining

    def _backend(self, name: bytes, word: bytes, writes: Writes, fresh: list[int]) -> int:
        state = self._state
        number = state.backend_ids.get(name)
        if number is None:
            number = state.new_backend(name)
            fresh.append(number)
        if state.records.get(number) != word:
            state.records[number] = writes.backends[number] = word
        return number
