"""cilium_lb_maglev: a table for every service that wants one, and the memory of what is there.

In: services by id with their slots. Out: tables made, replaced, removed. A table is computed once for all services of a
batch that have the same backends, and they share it; one that the kernel has already, also from a former life, stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from cilium.datapath.errors import DatapathError, MapFull
from cilium.datapath.maps import Array, MapWriteError
from cilium.datapath.nested import NestedMap
from cilium.features.services.maglev import Maglev
from cilium.features.services.records import Ids
from cilium.features.services.space import NoRoomError


class MaglevTables:
    """`names`: what backends are called on all nodes alike, by their ids here. All tables of a call are in memory at
    once, and the kernel takes some milliseconds for it however many there are.
    """

    def __init__(self, port: NestedMap, maglev: Maglev, *, names: Callable[[Ids], list[bytes]]) -> None:
        self._port, self._maglev, self._names = port, maglev, names
        self._arrays: dict[int, int] = {}
        """Number of the array by service."""
        self._slots: dict[int, Ids] = {}
        """What the array was computed from, by its number; what is not in here must be compared."""

    def read(self) -> None:
        keys, numbers = self._port.dump()
        self._arrays = dict(zip(keys.tolist(), numbers.tolist(), strict=True))
        self._forget()

    def services(self) -> set[int]:
        """Those that have a table."""
        return set(self._arrays)

    def right(self, service: int, slots: Ids) -> bool:
        """Whether it has the table of these slots; none: no table."""
        number = self._arrays.get(service)
        return number is None if not slots else number is not None and self._slots.get(number) == slots

    def write(self, wanted: Mapping[int, Ids]) -> dict[int, Exception]:
        """Tables by service; the failures. What fails keeps the table that it had."""
        services: dict[Ids, list[int]] = {}
        for service, slots in wanted.items():
            if slots and not self.right(service, slots):
                services.setdefault(slots, []).append(service)
        if not services:
            return {}
        errors = self._write(services)
        self._note({service: slots for slots, members in services.items() for service in members}, errors)
        return errors

    def remove(self, services: Iterable[int]) -> dict[int, Exception]:
        """The failures; those that have no table are none."""
        gone = [service for service in services if service in self._arrays]
        failures = {}
        if gone:
            try:
                self._port.delete(np.array(gone, np.uint32))
            except MapWriteError as error:
                failures = {gone[index]: failure for index, failure in error.failures.items()}
        for service in gone:
            if service not in failures:
                del self._arrays[service]
        self._forget()
        return dict(failures)

    def _write(self, services: Mapping[Ids, Sequence[int]]) -> dict[int, Exception]:
        keys: list[int] = []
        which: list[int] = []
        tables: list[Array] = []
        for slots, members in services.items():
            table = self._table(slots)
            missing = [service for service in members if not self._adopt(service, slots, table)]
            if missing:
                keys += missing
                which += [len(tables)] * len(missing)
                tables.append(table)
        if not keys:
            return {}
        try:
            self._port.update(np.array(keys, np.uint32), tables, which)
        except MapWriteError as error:
            return {keys[index]: self._explained(failure) for index, failure in error.failures.items()}
        return {}

    def _note(self, written: Mapping[int, Ids], errors: Collection[int]) -> None:
        """Under which numbers it all is now."""
        there, numbers = self._port.dump()
        for service, number in zip(there.tolist(), numbers.tolist(), strict=True):
            if service in written and service not in errors:
                self._arrays[service], self._slots[number] = number, written[service]
        self._forget()

    def _table(self, slots: Ids) -> Array:
        turns = Counter(slots)
        ids = tuple(turns)
        return np.array(ids, np.uint32)[self._maglev.table(self._names(ids), [turns[number] for number in ids])]

    def _adopt(self, service: int, slots: Ids, table: Array) -> bool:
        """Whether what is there without anybody knowing what it is, is this table."""
        number = self._arrays.get(service)
        if number is None or number in self._slots:
            return False
        try:
            same = np.array_equal(self._port.content(number), table)
        except DatapathError:  # somebody has just put another one in its place
            return False
        if same:
            self._slots[number] = slots
        return same

    def _forget(self) -> None:
        """Arrays that no service has."""
        there = set(self._arrays.values())
        self._slots = {number: slots for number, slots in self._slots.items() if number in there}

    def _explained(self, error: Exception) -> Exception:
        if not isinstance(error, MapFull):
            return error
        return NoRoomError(self._port.spec.name, self._port.spec.max_entries, "raise bpf.lbMaglevMapMax")
