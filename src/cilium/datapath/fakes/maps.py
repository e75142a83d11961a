"""Maps in memory, with faults on demand.

`FakeMap` behaves like `maps.Map` of the same specification (capacity, longest-prefix matching, per-CPU values), so a
test that passes on it says something about the kernel; the kernel tests run the same operations on both.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cilium.datapath.errors import KernelError, MapFull, ObjectError
from cilium.datapath.generated.maps import MAPS
from cilium.datapath.maps import Array, MapWriteError, check_column
from cilium.datapath.mapspec import MapSpec, MapType


class FakeMap:
    """A `BpfMap` in memory.

    Faults: `fail_next(n)` makes the next n elements written or deleted fail with `error`; `capacity` limits what fits.
    `writes` counts elements written and deleted, to show what a change costs.
    """

    def __init__(self, spec: MapSpec | str, *, capacity: int | None = None, cpus: int = 2) -> None:
        self.spec = MAPS[spec] if isinstance(spec, str) else spec
        if self.spec.key is None or self.spec.value is None:
            raise ObjectError(f"map {self.spec.name} is a {self.spec.type.name}: it has no elements to read or write")
        self._key, self._value = self.spec.key, self.spec.value
        self._shape = (cpus,) if self.spec.type.per_cpu else ()
        self.capacity = self.spec.max_entries if capacity is None else capacity
        self.writes = 0
        self._failing, self._error = 0, errno.ENOMEM
        self._rows: dict[bytes, Array] = {}
        if self.spec.type.array:
            for index in np.arange(self.capacity, dtype=self._key):
                self._rows[index.tobytes()] = np.zeros(self._shape, self._value)

    def __len__(self) -> int:
        return len(self._rows)

    def fail_next(self, count: int = 1, error: int = errno.ENOMEM) -> None:
        """Let the next `count` elements fail with errno `error`."""
        self._failing, self._error = count, error

    def update(self, keys: Array, values: Array) -> None:
        """See BpfMap."""
        keys = check_column(self.spec.name, keys, self._key, "keys")
        values = check_column(self.spec.name, values, self._value, "values")
        if len(keys) != len(values):
            raise ValueError(f"map {self.spec.name}: {len(keys)} keys but {len(values)} values")
        if values.shape[1:] != self._shape:
            raise ValueError(f"map {self.spec.name}: values have the shape {values.shape}, not {self._shape} per row")
        failures = {i: error for i in range(len(keys)) if (error := self._write(keys[i], values[i]))}
        if failures:
            raise MapWriteError(self.spec.name, failures, len(keys))

    def delete(self, keys: Array) -> None:
        """See BpfMap."""
        if self.spec.type.array:
            raise ObjectError(f"map {self.spec.name} is an array: its elements cannot be deleted, write zeros instead")
        keys = check_column(self.spec.name, keys, self._key, "keys")
        failures: dict[int, KernelError] = {}
        for i, key in enumerate(keys):
            if error := self._fault():
                failures[i] = error
            elif self._rows.pop(self._normal(key), None) is not None:
                self.writes += 1
        if failures:
            raise MapWriteError(self.spec.name, failures, len(keys))

    def lookup(self, keys: Array) -> tuple[Array, NDArray[np.bool_]]:
        """See BpfMap."""
        keys = check_column(self.spec.name, keys, self._key, "keys")
        values, found = np.zeros((len(keys), *self._shape), self._value), np.zeros(len(keys), np.bool_)
        for i, key in enumerate(keys):
            row = self._longest(key) if self.spec.type is MapType.LPM_TRIE else self._rows.get(key.tobytes())
            if row is not None:
                values[i], found[i] = row, True
        return values, found

    def dump(self) -> tuple[Array, Array]:
        """See BpfMap."""
        keys = np.frombuffer(b"".join(self._rows), self._key).copy()
        values = np.zeros((len(keys), *self._shape), self._value)
        for i, row in enumerate(self._rows.values()):
            values[i] = row
        return keys, values

    def chunks(self) -> Iterator[tuple[Array, Array]]:
        """See BpfMap."""
        yield self.dump()

    def drain(self) -> tuple[Array, Array]:
        """See Map."""
        drained = self.dump()
        self._rows.clear()
        return drained

    def close(self) -> None:
        """Nothing to give up."""

    def _write(self, key: Any, value: Any) -> KernelError | None:
        if error := self._fault():
            return error
        action = f"write an element of map {self.spec.name}"
        if self.spec.type is MapType.LPM_TRIE and key["prefixlen"] > 8 * (self._key.itemsize - 4):
            return KernelError(action, errno.EINVAL)
        raw = self._normal(key)
        if raw not in self._rows and len(self._rows) >= self.capacity:
            if self.spec.type not in (MapType.LRU_HASH, MapType.LRU_PERCPU_HASH):
                full = errno.ENOSPC if self.spec.type is MapType.LPM_TRIE else errno.E2BIG
                return MapFull(action, full)
            del self._rows[next(iter(self._rows))]
        self._rows[raw] = np.array(value, self._value)
        self.writes += 1
        return None

    def _fault(self) -> KernelError | None:
        if self._failing == 0:
            return None
        self._failing -= 1
        kind = MapFull if self._error in (errno.E2BIG, errno.ENOSPC) else KernelError
        return kind(f"write an element of map {self.spec.name}", self._error)

    def _normal(self, key: Any) -> bytes:
        """A trie keeps the bits of the prefix only."""
        raw: bytes = key.tobytes()
        if self.spec.type is not MapType.LPM_TRIE:
            return raw
        width = 8 * (len(raw) - 4)
        bits = min(int(key["prefixlen"]), width)
        kept = int.from_bytes(raw[4:], "big") >> (width - bits) << (width - bits)
        return raw[:4] + kept.to_bytes(len(raw) - 4, "big")

    def _longest(self, key: Any) -> Array | None:
        raw: bytes = key.tobytes()
        width, wanted = 8 * (len(raw) - 4), int(key["prefixlen"])
        address = int.from_bytes(raw[4:], "big")
        best, best_bits = None, -1
        for candidate, row in self._rows.items():
            bits = int.from_bytes(candidate[:4], "little")
            same = (address ^ int.from_bytes(candidate[4:], "big")) >> (width - bits) == 0
            if best_bits < bits <= wanted and same:
                best, best_bits = row, bits
        return best
