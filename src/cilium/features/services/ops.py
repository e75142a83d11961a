"""Writes `frontends` into the maps of services.

Order of writing: backends, slots, service rows; a row flips from its old slots to its new ones in one write, and what
it left rests before it is used again. Nothing is written that the kernel has already.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import numpy as np

from cilium.datapath.addresses import addresses_array
from cilium.datapath.generated import BACKEND, SERVICE, SERVICE_KEY, ServiceFlags, ServiceScope
from cilium.datapath.maps import Array, BpfMap, MapWriteError
from cilium.features.services.space import NoRoomError
from cilium.features.services.state import Ids, KnownRow, ServiceState, SlotRange, identity, raw
from cilium.state.reconciler import Errors
from cilium.tables.services import Frontend, Scope

NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}
SCOPES = {scope: ServiceScope[scope.name] for scope in Scope}


def service_keys(rows: Sequence[Frontend]) -> Array:
    keys = np.zeros(len(rows), dtype=SERVICE_KEY)
    keys["address"] = addresses_array(row.address for row in rows)
    keys["port"] = [row.port for row in rows]
    keys["protocol"] = [NUMBERS[row.protocol] for row in rows]
    keys["scope"] = [SCOPES[row.scope] for row in rows]
    return keys


def backend_records(rows: Sequence[Frontend]) -> Array:
    """The backends of all rows, one after the other."""
    flat = [(backend, row.protocol) for row in rows for backend in row.backends]
    records = np.zeros(len(flat), dtype=BACKEND)
    records["address"] = addresses_array(backend.address for backend, _ in flat)
    records["port"] = [backend.port for backend, _ in flat]
    records["protocol"] = [NUMBERS[protocol] for _, protocol in flat]
    records["state"] = [backend.terminating for backend, _ in flat]
    return records


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


class ServiceMaps:
    """Operations of the `services` reconciler. `clock`: seconds; what nobody names any more rests by it."""

    def __init__(
        self,
        *,
        services: BpfMap,
        slots: BpfMap,
        backends: BpfMap,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._services, self._slots, self._backends = services, slots, backends
        self._state = ServiceState(services=services, slots=slots, backends=backends, clock=clock)
        self._known = False
        """Whether the books say what the maps hold."""

    def update(self, rows: Sequence[Frontend]) -> Errors:
        self._read()
        self._known = False  # until all is written: whatever interrupts leaves books to be read anew
        errors: dict[Hashable, Exception] = {}
        writes = Writes()
        keys = service_keys(rows)
        names = raw(keys)
        flips: list[tuple[int, KnownRow]] = []
        for index, ids in self._place(rows, writes, errors):
            flags = ServiceFlags.NODE_PORT if rows[index].address.is_unspecified else 0
            old = self._state.rows.get(names[index])
            if old is not None and (old.backends, old.flags) == (ids, flags):
                self._state.release(ids)
                continue
            flips.append((index, KnownRow(old.id if old else self._state.new_id(), ids, int(flags))))
        writes.write(self._slots, self._backends)
        self._flip(rows, keys, names, flips, errors)
        self._known = True
        return errors

    def delete(self, rows: Sequence[Frontend]) -> Errors:
        self._read()
        keys = service_keys(rows)
        failures: Mapping[int, Exception] = {}
        try:
            self._services.delete(keys)
        except MapWriteError as error:
            failures = error.failures
        for index, name in enumerate(raw(keys)):
            if index not in failures:
                self._state.forget(name)
        return {rows[index].key: failure for index, failure in failures.items()}

    def prune(self, rows: Sequence[Frontend]) -> None:
        """Also reads the books anew: what others have changed is found, and made good by the updates that follow."""
        self._known = False
        present = self._state.read()
        wanted = set(raw(service_keys(rows)))
        stale = [index for index, name in enumerate(raw(present)) if name not in wanted]
        if stale:
            self._services.delete(present[stale])
            for name in raw(present[stale]):
                self._state.forget(name)
        self._known = True

    def _read(self) -> None:
        if not self._known:
            self._state.read()
            self._known = True

    def _place(
        self, rows: Sequence[Frontend], writes: Writes, errors: dict[Hashable, Exception]
    ) -> Iterable[tuple[int, Ids]]:
        """A range of slots, already in use, for every row that gets one."""
        state = self._state
        records = backend_records(rows)
        words = raw(records)
        names = identity(records, words)
        at = 0
        for index, row in enumerate(rows):
            count = len(row.backends)
            part, at = range(at, at + count), at + count
            fresh: list[int] = []
            try:
                ids = tuple(self._backend(names[place], words[place], writes, fresh) for place in part)
                if ids and ids not in state.ranges:
                    state.ranges[ids] = SlotRange(state.slot_space.allocate(len(ids)))
                    writes.slots.append((state.ranges[ids].start, ids))
            except NoRoomError as error:
                for number in fresh:
                    writes.backends.pop(number, None)
                    state.drop_backend(number)
                errors[row.key] = error
                continue
            state.use(ids)
            yield index, ids

    def _backend(self, name: bytes, word: bytes, writes: Writes, fresh: list[int]) -> int:
        state = self._state
        number = state.backend_ids.get(name)
        if number is None:
            number = state.new_backend(name)
            fresh.append(number)
        if state.records.get(number) != word:
            state.records[number] = writes.backends[number] = word
        return number

    def _flip(
        self,
        rows: Sequence[Frontend],
        keys: Array,
        names: Sequence[bytes],
        flips: Sequence[tuple[int, KnownRow]],
        errors: dict[Hashable, Exception],
    ) -> None:
        """Rows to their new slots; then the old ones are free."""
        state = self._state
        values = np.zeros(len(flips), dtype=SERVICE)
        values["id"] = [row.id for _, row in flips]
        values["slots"] = [state.ranges[row.backends].start if row.backends else 0 for _, row in flips]
        values["count"] = [len(row.backends) for _, row in flips]
        values["flags"] = [row.flags for _, row in flips]
        failures: Mapping[int, Exception] = {}
        try:
            self._services.update(keys[[index for index, _ in flips]], values)
        except MapWriteError as error:
            failures = error.failures
        for place, (index, row) in enumerate(flips):
            old = state.rows.get(names[index])
            if place in failures:
                errors[rows[index].key] = failures[place]
                state.release(row.backends)
                if old is None:
                    state.free_id(row.id)
                continue
            state.rows[names[index]] = row
            if old is not None:
                state.release(old.backends)


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

    async def prune(self, rows: Sequence[Frontend]) -> None:
        await asyncio.to_thread(self._maps.prune, rows)
