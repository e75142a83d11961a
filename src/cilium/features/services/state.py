"""What the maps of services hold, read back from them: the memory that a restart finds.

In: the maps. Out: `ServiceState`: rows with their ids and slot ranges, backends with theirs, who uses what, and the
room that is left. Ids stay what they are over restarts because they are read, not counted anew.

A backend has a record as long as a row names it, in its slots or because connections to it go on. Slots are read back;
who else is named is known only when the row comes again, so until then a record that is there stays there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cilium.datapath.generated import BACKEND
from cilium.datapath.maps import Array, BpfMap
from cilium.features.services.records import Ids, backend_records, identity, public_names, raw, service_keys
from cilium.features.services.space import Space
from cilium.tables.services import Frontend

SETTING = "raise bpf.lbServiceBackendMapMax"


UNKNOWN = -1
"""Session affinity of a row that has to be written anew, whatever it shall say."""


@dataclass(slots=True)
class SlotRange:
    """Slots that hold these backends, for every service that has exactly them."""

    start: int
    users: int = 0


@dataclass(frozen=True, slots=True)
class KnownRow:
    """A row of cilium_lb_services as the kernel has it."""

    id: int
    slots: Ids
    """A backend as often as it has turns."""
    flags: int
    affinity: int = 0
    draining: Ids = ()
    """Backends that it names, and that get no new connections."""


class ServiceState:
    """Books over three maps. `clock`: seconds."""

    def __init__(self, *, services: BpfMap, slots: BpfMap, backends: BpfMap, clock: Callable[[], float]) -> None:
        self._services, self._slots, self._backends = services, slots, backends
        self.rows: dict[bytes, KnownRow] = {}
        self.ranges: dict[Ids, SlotRange] = {}
        self.backend_ids: dict[bytes, int] = {}
        """By the backend's record without its attributes."""
        self.records: dict[int, bytes] = {}
        """A backend's record as it was written, by id."""
        self._users: dict[int, int] = {}
        self._dropped: set[int] = set()
        self.slot_space = Space("cilium_lb_slots", size=slots.spec.max_entries, remedy=SETTING, clock=clock)
        self._backend_space = Space(
            "cilium_lb_backends", size=backends.spec.max_entries, remedy=SETTING, clock=clock, first=1
        )
        self._id_space = Space("service ids", size=1 << 31, remedy="remove services", clock=clock, first=1)

    def read(self, others: Iterable[int] = ()) -> Array:
        """Begin anew with what the kernel holds; returns the keys of its rows. `others`: ids of services that are gone
        and of which something is left.
        """
        keys, values = self._services.dump()
        slots = head(self._slots, int((values["slots"] + values["count"]).max(initial=0))).tolist()
        self.rows, self.ranges, self._users, self._dropped = {}, {}, {}, set()
        columns = (values[name].tolist() for name in ("id", "slots", "count", "flags", "affinity_timeout"))
        for key, number, start, count, flags, affinity in zip(raw(keys), *columns, strict=True):
            ids: Ids = tuple(slots[start : start + count])
            if 0 in ids or (ids and self.ranges.setdefault(ids, SlotRange(start)).start != start):
                # Slots beyond the end of a map that became smaller, or that others have: never what a row wants.
                self.rows[key] = KnownRow(number, (), flags, UNKNOWN)
                continue
            self.rows[key] = KnownRow(number, ids, flags, affinity)
            self.use(ids)
        self._read_backends()
        self.slot_space.take((kept.start, len(ids)) for ids, kept in self.ranges.items())
        self._backend_space.take((number, 1) for number in self.records.keys() | self._users.keys())
        self._id_space.take((number, 1) for number in {row.id for row in self.rows.values()}.union(others))
        return keys

    def new_id(self) -> int:
        return self._id_space.allocate()

    def free_id(self, number: int) -> None:
        self._id_space.free(number)

    def new_backend(self, name: bytes) -> int:
        """Raises NoRoomError."""
        number = self._backend_space.allocate()
        self.backend_ids[name] = number
        return number

    def use(self, slots: Ids, draining: Ids = ()) -> None:
        """One more service has these backends."""
        if slots:
            known = self.ranges[slots]
            known.users += 1
            if known.users == 1:
                self._count(set(slots), 1)
        self._count(draining, 1)

    def release(self, slots: Ids, draining: Ids = ()) -> None:
        """One service less has them; what nobody has any more is free after a rest."""
        if slots:
            known = self.ranges[slots]
            known.users -= 1
            if not known.users:
                self.slot_space.free(self.ranges.pop(slots).start, len(slots))
                self._count(set(slots), -1)
        self._count(draining, -1)

    def drop_backend(self, number: int) -> None:
        record = self.records.pop(number, None)
        if record is not None:
            name = identity(np.frombuffer(record, BACKEND), [record])[0]
            if self.backend_ids.get(name) == number:
                del self.backend_ids[name]
        self._backend_space.free(number)
        self._dropped.add(number)

    def zero_dropped(self) -> None:
        """Records of backends that nobody names any more: connections to them are chosen anew."""
        size = self._backends.spec.max_entries  # a map that was larger had others
        gone = sorted(number for number in self._dropped if number not in self.records and number < size)
        if gone:
            self._backends.update(np.array(gone, np.uint32), np.zeros(len(gone), BACKEND))
        self._dropped.clear()

    def public_names(self, ids: Ids) -> list[bytes]:
        """What these backends are called on every node alike."""
        return public_names(np.frombuffer(b"".join(self.records[number] for number in ids), BACKEND))

    def forget(self, key: bytes) -> KnownRow | None:
        """The row is gone from the kernel. Its id is the caller's to free, when nothing is left that bears it."""
        row = self.rows.pop(key, None)
        if row is not None:
            self.release(row.slots, row.draining)
        return row

    def adopt(self, rows: Sequence[Frontend]) -> None:
        """After `read`, with all rows that are wanted: who is named only by them is theirs; nobody's are dropped."""
        strays = self.records.keys() - self._users.keys()
        if not strays:
            return
        names = {name: number for name, number in self.backend_ids.items() if number in strays}
        records = backend_records(rows)
        found = [names.get(name, 0) for name in identity(records, raw(records))]
        at = 0
        for row, key in zip(rows, raw(service_keys(rows)), strict=True):
            mine: Ids = tuple(number for number in found[at : at + len(row.backends)] if number)
            at += len(row.backends)
            known = self.rows.get(key)
            if mine and known is not None:
                self.rows[key] = KnownRow(known.id, known.slots, known.flags, known.affinity, mine)
                self.use((), mine)
        for number in strays - self._users.keys() - set(found):
            self.drop_backend(number)

    def _count(self, numbers: Iterable[int], difference: int) -> None:
        for number in numbers:
            users = self._users.get(number, 0) + difference
            if users:
                self._users[number] = users
            else:
                del self._users[number]
                self.drop_backend(number)

    def _read_backends(self) -> None:
        self.records, self.backend_ids = {}, {}
        for keys, values in self._backends.chunks():
            there = np.flatnonzero(values["address"].any(axis=1))
            records, numbers = values[there], keys[there].tolist()
            words = raw(records)
            self.records |= zip(numbers, words, strict=True)
            self.backend_ids |= zip(identity(records, words), numbers, strict=True)
        if len(self.backend_ids) < len(self.records):  # somebody is there twice: the one that is in use counts
            used = [number for number in self._users if number in self.records]
            words = [self.records[number] for number in used]
            self.backend_ids |= zip(identity(np.frombuffer(b"".join(words), BACKEND), words), used, strict=True)


def head(port: BpfMap, count: int) -> Array:
    """The first elements of an array map; no more of it is read than that."""
    assert port.spec.value is not None
    parts: list[Any] = []
    have = 0
    for _, values in port.chunks() if count else ():
        parts.append(values)
        have += len(values)
        if have >= count:
            break
    if not parts:
        return np.zeros(count, port.spec.value)
    joined = np.concatenate(parts).astype(port.spec.value, copy=False)
    short = np.zeros(max(0, count - len(joined)), port.spec.value)
    return np.concatenate([joined[:count], short]).astype(port.spec.value, copy=False)
