"""Maps as numpy sees them: whole columns of keys and values in, whole columns out.

In: arrays of the dtypes in `cilium.datapath.generated`. Out: `BpfMap`, the port that features use; `Map` over
a descriptor; `PinnedMap` over a name. Writes go to the kernel in batches; an element that fails leaves the others
undisturbed and is reported by its index. Not here: ring buffers (`ringbuf`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cilium.datapath.closing import Closing
from cilium.datapath.errors import DatapathError, KernelError, MapFull, MapSpecMismatch, NoSuchEntry, ObjectError
from cilium.datapath.generated.maps import MAPS
from cilium.datapath.libbpf import syscall
from cilium.datapath.libbpf.syscall import ENOTSUPP, Command
from cilium.datapath.mapspec import MapSpec, Shape
from cilium.datapath.paths import MAP_DIRECTORY

Array = NDArray[Any]
_FIRST_BATCH = 4096


class MapWriteError(DatapathError):
    """Some elements were not written; the others were. `failures`: error by index into the arrays given."""

    def __init__(self, name: str, failures: dict[int, KernelError], total: int) -> None:
        self.failures = failures
        first = next(iter(failures.values()))
        super().__init__(f"map {name}: {len(failures)} of {total} elements failed, the first with: {first}")


class BpfMap(Protocol):
    """What a feature may do with a map. Arrays of one row per element; per-CPU values have a second axis, the CPU."""

    @property
    def spec(self) -> MapSpec:
        """Its shape."""

    def update(self, keys: Array, values: Array) -> None:
        """Insert or replace. Raises MapWriteError with the elements that failed; the others are written."""

    def delete(self, keys: Array) -> None:
        """Remove; an absent key is no error. Raises MapWriteError."""

    def lookup(self, keys: Array) -> tuple[Array, NDArray[np.bool_]]:
        """(values, found), one row per key; a value that was not found is zero. LPM: the longest match."""

    def dump(self) -> tuple[Array, Array]:
        """(keys, values) of all elements, in no order. While others write, an element may be missed or seen twice."""

    def chunks(self) -> Iterator[tuple[Array, Array]]:
        """The same in parts, for maps too large to be held whole."""


def check_column(name: str, array: Array, dtype: np.dtype[Any], what: str) -> Array:
    """The array, contiguous. Raises ValueError when it is of another type than the map's."""
    if array.dtype != dtype:
        raise ValueError(f"map {name}: {what} are {array.dtype}, not {dtype}")
    return np.ascontiguousarray(array)


def possible_cpus() -> int:
    """How many values a per-CPU element has: the highest possible CPU + 1."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.rsplit(",", 1)[-1].rsplit("-", 1)[-1]) + 1


def value_layout(spec: MapSpec, cpus: int) -> np.dtype[Any]:
    """One element's value as the kernel copies it: per-CPU values are padded to 8 bytes each."""
    assert spec.value is not None
    if not spec.type.per_cpu:
        return spec.value
    size = -(-spec.value.itemsize // 8) * 8
    padded = np.dtype({"names": ["value"], "formats": [spec.value], "offsets": [0], "itemsize": size})
    return np.dtype((padded, (cpus,)))


class Map(Closing):
    """A map by its descriptor, which it owns."""

    def __init__(self, fd: int, spec: MapSpec) -> None:
        if spec.key is None or spec.value is None:
            raise ObjectError(f"map {spec.name} is a {spec.type.name}: it has no elements to read or write")
        self.fd, self.spec = fd, spec
        self._key, self._value = spec.key, spec.value
        self._layout = value_layout(spec, possible_cpus() if spec.type.per_cpu else 1)

    def update(self, keys: Array, values: Array) -> None:
        """See BpfMap. Values of per-CPU maps: shape (elements, cpus)."""
        keys, values = self._checked(keys, self._key, "keys"), self._to_kernel(values)
        if len(keys) != len(values):
            raise ValueError(f"map {self.spec.name}: {len(keys)} keys but {len(values)} values")
        self._write(Command.MAP_UPDATE_BATCH, Command.MAP_UPDATE_ELEM, keys, values)

    def delete(self, keys: Array) -> None:
        """See BpfMap."""
        if self.spec.type.array:
            raise ObjectError(f"map {self.spec.name} is an array: its elements cannot be deleted, write zeros instead")
        self._write(Command.MAP_DELETE_BATCH, Command.MAP_DELETE_ELEM, self._checked(keys, self._key, "keys"), None)

    def lookup(self, keys: Array) -> tuple[Array, NDArray[np.bool_]]:
        """See BpfMap."""
        keys = self._checked(keys, self._key, "keys")
        values, found = self._buffer(len(keys)), np.zeros(len(keys), np.bool_)
        for i in range(len(keys)):
            key = keys.ctypes.data + i * keys.itemsize
            value = values.ctypes.data + i * self._layout.itemsize
            result = syscall.map_element(Command.MAP_LOOKUP_ELEM, self.fd, key, value)
            if result < 0 and result != -errno.ENOENT:
                raise _error(self.spec.name, "look up", -result)
            found[i] = result == 0
        return self._from_kernel(values), found

    def dump(self) -> tuple[Array, Array]:
        """See BpfMap."""
        return self._read_all(Command.MAP_LOOKUP_BATCH)

    def chunks(self) -> Iterator[tuple[Array, Array]]:
        """What `dump` returns, in parts of at most some 65,536 elements: for maps too large to be held whole."""
        return self._chunks(Command.MAP_LOOKUP_BATCH)

    def drain(self) -> tuple[Array, Array]:
        """Like `dump`, but removes what it returns, so that nothing is lost in between. Hash kinds only."""
        return self._read_all(Command.MAP_LOOKUP_AND_DELETE_BATCH)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _write(self, batch: Command, single: Command, keys: Array, values: Array | None) -> None:
        """Batches from where the last one stopped; the element it stopped at is noted and skipped."""
        failures: dict[int, KernelError] = {}
        at, total, step = 0, len(keys), keys.itemsize
        while at < total:
            key = keys.ctypes.data + at * step
            value = values.ctypes.data + at * self._layout.itemsize if values is not None else 0
            result = syscall.map_batch(batch, self.fd, keys=key, values=value, count=total - at)
            at += result.count
            error = result.error
            if error == ENOTSUPP:  # this kind of map has no batches on this kernel
                error = -syscall.map_element(single, self.fd, key, value)
                at += error == 0
            if error == 0:
                continue
            if not (error == errno.ENOENT and single is Command.MAP_DELETE_ELEM):
                failures[at] = _error(self.spec.name, "write", error)
            at += 1
        if failures:
            raise MapWriteError(self.spec.name, failures, total)

    def _read_all(self, command: Command) -> tuple[Array, Array]:
        parts = list(self._chunks(command))
        # Joining structured arrays turns their fields into the host's byte order: back to the map's own.
        keys = np.concatenate([keys for keys, _ in parts]).astype(self._key, copy=False)
        return keys, np.concatenate([values for _, values in parts]).astype(self._value, copy=False)

    def _chunks(self, command: Command) -> Iterator[tuple[Array, Array]]:
        token = [np.zeros(max(self._key.itemsize, 8), np.uint8) for _ in range(2)]
        after, room, error = 0, min(self.spec.max_entries, _FIRST_BATCH), 0
        while error != errno.ENOENT:
            keys, values = np.empty(room, self._key), self._buffer(room)
            result = syscall.map_batch(
                command,
                self.fd,
                keys=keys.ctypes.data,
                values=values.ctypes.data,
                count=room,
                after=after,
                token=token[0].ctypes.data,
            )
            error = result.error
            if error == errno.ENOSPC:  # one bucket holds more than there is room for
                room *= 2
                continue
            if error not in (0, errno.ENOENT):
                raise _error(self.spec.name, "read", error)
            yield keys[: result.count], self._from_kernel(values[: result.count])
            token.reverse()
            after = token[1].ctypes.data
            room = min(room * 2, 1 << 16)

    def _buffer(self, length: int) -> Array:
        return np.zeros((length, *self._layout.shape), self._layout.base)

    def _from_kernel(self, values: Array) -> Array:
        return np.ascontiguousarray(values["value"]) if self.spec.type.per_cpu else values

    def _to_kernel(self, values: Array) -> Array:
        values = self._checked(values, self._value, "values")
        if not self.spec.type.per_cpu:
            return values
        padded = self._buffer(len(values))
        if values.shape != padded.shape:
            raise ValueError(f"map {self.spec.name}: values have the shape {values.shape}, not {padded.shape}")
        padded["value"] = values
        return padded

    def _checked(self, array: Array, dtype: np.dtype[Any], what: str) -> Array:
        return check_column(self.spec.name, array, dtype, what)


class PinnedMap(Map):
    """A map of the datapath by its name."""

    def __init__(self, name: str, directory: Path = MAP_DIRECTORY, spec: MapSpec | None = None) -> None:
        """Raises ObjectError when it is not there, MapSpecMismatch when it has another shape than `spec`."""
        wanted = spec or MAPS.get(name)
        if wanted is None:
            raise ObjectError(f"{name} is no map of the datapath; known: {', '.join(MAPS)}")
        path = directory / name
        try:
            fd = syscall.get(str(path))
        except NoSuchEntry:
            raise ObjectError(
                f"map {name} is not pinned at {path}: the agent has not loaded the datapath yet"
            ) from None
        try:
            found = shape_of(fd)
            if found.layout != wanted.shape.layout:
                raise MapSpecMismatch(name, str(path), str(found), str(wanted.shape))
            super().__init__(fd, replace(wanted, max_entries=found.max_entries))
        except BaseException:
            os.close(fd)
            raise


def shape_of(fd: int) -> Shape:
    """The shape of an open map."""
    found = syscall.info(fd, "map_info")
    return Shape(found.type, found.key_size, found.value_size, found.max_entries, found.map_flags)


def _error(name: str, verb: str, number: int) -> KernelError:
    kind = {errno.E2BIG: MapFull, errno.ENOSPC: MapFull, errno.ENOENT: NoSuchEntry}.get(number, KernelError)
    return kind(f"{verb} an element of map {name}", number)
