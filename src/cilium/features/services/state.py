"""What the maps of services hold, read back from them: the memory that a restart finds.

In: the maps. Out: `ServiceState`: rows with their ids and slot ranges, backends with theirs, who uses what, and the
room that is left. Ids stay what they are over restarts because they are read, not counted anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cilium.datapath.maps import Array, BpfMap
from cilium.features.services.space import Space

Ids = tuple[int, ...]
SETTING = "raise bpf.lbServiceBackendMapMax"


@dataclass(slots=True)
class SlotRange:
    """Slots that hold these backends, for every service that has exactly them."""

    start: int
    users: int = 0


@dataclass(frozen=True, slots=True)
class KnownRow:
    """A row of cilium_lb_services as the kernel has it."""

    id: int
    backends: Ids
    flags: int


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
        self.slot_space = Space("cilium_lb_slots", size=slots.spec.max_entries, remedy=SETTING, clock=clock)
        self._backend_space = Space(
            "cilium_lb_backends", size=backends.spec.max_entries, remedy=SETTING, clock=clock, first=1
        )
        self._id_space = Space("service ids", size=1 << 31, remedy="remove services", clock=clock, first=1)

    def read(self) -> Array:
        """Begin anew with what the kernel holds; returns the keys of its rows."""
        keys, values = self._services.dump()
        extent = int((values["slots"] + values["count"]).max(initial=0))
        slots = head(self._slots, extent)
        records = head(self._backends, int(slots.max(initial=0)) + 1)
        self.rows, self.ranges, self.backend_ids, self.records, self._users = {}, {}, {}, {}, {}
        for key, value in zip(keys, values, strict=True):
            start, count = int(value["slots"]), int(value["count"])
            ids: Ids = tuple(slots[start : start + count].tolist())
            if ids and ids not in self.ranges:
                self.ranges[ids] = SlotRange(start)
            self.rows[key.tobytes()] = KnownRow(int(value["id"]), ids, int(value["flags"]))
            self.use(ids)
        words = raw(records)
        names = identity(records, words)
        for number in self._users:
            self.records[number] = words[number]
            self.backend_ids[names[number]] = number
        self.slot_space.take((kept.start, len(ids)) for ids, kept in self.ranges.items())
        self._backend_space.take((number, 1) for number in self._users)
        self._id_space.take((row.id, 1) for row in self.rows.values())
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

    def use(self, ids: Ids) -> None:
        """One more service has these backends."""
        if not ids:
            return
        known = self.ranges[ids]
        known.users += 1
        if known.users == 1:
            for number in ids:
                self._users[number] = self._users.get(number, 0) + 1

    def release(self, ids: Ids) -> None:
        """One service less has them; what nobody has any more is free after a rest."""
        if not ids:
            return
        known = self.ranges[ids]
        known.users -= 1
        if known.users > 0:
            return
        self.slot_space.free(self.ranges.pop(ids).start, len(ids))
        for number in ids:
            self._users[number] -= 1
            if not self._users[number]:
                del self._users[number]
                self.drop_backend(number)

    def drop_backend(self, number: int) -> None:
        record = self.records.pop(number)
        name = identity(np.frombuffer(record, self._backends.spec.value), [record])[0]
        if self.backend_ids.get(name) == number:
            del self.backend_ids[name]
        self._backend_space.free(number)

    def forget(self, key: bytes) -> None:
        """The row is gone from the kernel."""
        row = self.rows.pop(key, None)
        if row is not None:
            self.release(row.backends)
            self.free_id(row.id)


def identity(records: Array, words: list[bytes]) -> list[bytes]:
    """Who a backend is, whatever its attributes say, out of records and their bytes, which serve where they can."""
    odd = np.flatnonzero(records["state"])
    if not len(odd):
        return words
    bare = records[odd]
    bare["state"] = 0
    names = list(words)
    for place, name in zip(odd.tolist(), raw(bare), strict=True):
        names[place] = name
    return names


def raw(records: Array) -> list[bytes]:
    size = records.dtype.itemsize
    data = records.tobytes()
    return [data[at : at + size] for at in range(0, len(data), size)]


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
