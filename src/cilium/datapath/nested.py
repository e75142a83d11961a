"""Maps of maps: under every key an array of its own, which keys may share.

In: keys, and arrays of any length to be found under them. Out: `NestedMap`, the port that features use; `Nested` over a
map of maps. An array is never changed once a key names it: a new one takes its place in one write. Such a write waits
until no program uses the old one (RCU, several milliseconds); a batch of them waits once. The arrays' memory is mapped
into this process for as long as they are read or filled: by calls of the kernel that takes fifty times as long.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from cilium.datapath.closing import Closing
from cilium.datapath.errors import KernelError, ObjectError
from cilium.datapath.libbpf import syscall
from cilium.datapath.maps import Array, Map, MapWriteError, shape_of
from cilium.datapath.mapspec import MapSpec, MapType

MMAPABLE = 1 << 10
"""BPF_F_MMAPABLE."""
STEP = 256
"""So many arrays are held open at once while they move."""


class NestedMap(Protocol):
    """What a feature may do with a map of arrays."""

    @property
    def spec(self) -> MapSpec:
        """Its shape; `inner`: that of the arrays, whose length is free."""

    def update(self, keys: Array, arrays: Sequence[Array], which: Sequence[int]) -> None:
        """Under `keys[i]`: `arrays[which[i]]`, made once for all its keys. Raises MapWriteError with the keys that
        failed; the others are written.
        """

    def delete(self, keys: Array) -> None:
        """Remove; an absent key is no error. Raises MapWriteError."""

    def dump(self) -> tuple[Array, Array]:
        """(keys, numbers): the number names the array under the key; another array never has it at the same time."""

    def content(self, number: int) -> Array:
        """The array of that number. Raises NoSuchEntry when no key names it any more."""


class Nested(Closing):
    """Over `outer`, which it takes over."""

    def __init__(self, outer: Map) -> None:
        """Raises ObjectError when it is no map of arrays whose memory can be mapped."""
        inner = outer.spec.inner
        if outer.spec.type is not MapType.HASH_OF_MAPS or inner is None or not inner.flags & MMAPABLE:
            raise ObjectError(f"map {outer.spec.name} is a {outer.spec.type.name}, no map of arrays to be mapped")
        self._outer, self._inner = outer, inner

    @property
    def spec(self) -> MapSpec:
        """See NestedMap."""
        return self._outer.spec

    def update(self, keys: Array, arrays: Sequence[Array], which: Sequence[int]) -> None:
        """See NestedMap."""
        made: dict[int, int] = {}
        failed: dict[int, KernelError] = {}
        try:
            for index, array in enumerate(arrays):
                try:
                    made[index] = self._make(array)
                except KernelError as error:
                    failed[index] = error
            self._insert(keys, made, failed, which)
        finally:
            for fd in made.values():
                os.close(fd)

    def delete(self, keys: Array) -> None:
        """See NestedMap."""
        self._outer.delete(keys)

    def dump(self) -> tuple[Array, Array]:
        """See NestedMap."""
        return self._outer.dump()

    def content(self, number: int) -> Array:
        """See NestedMap."""
        fd = syscall.map_by_number(number)
        try:
            count = shape_of(fd).max_entries
            with mmap.mmap(fd, self._bytes(count), prot=mmap.PROT_READ) as memory:
                return self._elements(memory, count).copy()
        except OSError as error:
            raise KernelError(f"map array {number} of {self.spec.name} into memory", error.errno or 0) from error
        finally:
            os.close(fd)

    def close(self) -> None:
        self._outer.close()

    def _make(self, content: Array) -> int:
        """The descriptor of an array that has this content. Raises KernelError."""
        count = len(content)
        fd = syscall.map_create(self._inner.name, self._inner.shape._replace(max_entries=count))
        try:
            with mmap.mmap(fd, self._bytes(count)) as memory:
                self._elements(memory, count)[:] = content
        except OSError as error:
            os.close(fd)
            raise KernelError(f"map an array of {self.spec.name} into memory", error.errno or 0) from error
        except BaseException:
            os.close(fd)
            raise
        return fd

    @property
    def _layout(self) -> np.dtype[Any]:
        """An element as it lies in memory: the kernel fills up to 8 bytes."""
        assert self._inner.value is not None
        size = -(-self._inner.value.itemsize // 8) * 8
        return np.dtype({"names": ["value"], "formats": [self._inner.value], "offsets": [0], "itemsize": size})

    def _bytes(self, count: int) -> int:
        """Whole pages."""
        return -(-count * self._layout.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE

    def _elements(self, memory: mmap.mmap, count: int) -> Array:
        return np.frombuffer(memory, self._layout, count)["value"]

    def _insert(
        self, keys: Array, made: Mapping[int, int], failed: Mapping[int, KernelError], which: Sequence[int]
    ) -> None:
        """What could be made; raises MapWriteError for the keys of the rest, too."""
        good = [place for place, index in enumerate(which) if index in made]
        failures = {place: failed[index] for place, index in enumerate(which) if index in failed}
        try:
            self._outer.update(keys[good], np.array([made[which[place]] for place in good], self.spec.value))
        except MapWriteError as error:
            failures |= {good[place]: failure for place, failure in error.failures.items()}
        if failures:
            raise MapWriteError(self.spec.name, failures, len(keys))


def insert(target: Map, keys: Array, numbers: Array) -> int:
    """The arrays of these numbers, themselves and not copies, under keys of another map; how many did not fit."""
    lost = 0
    for at in range(0, len(keys), STEP):
        opened: list[int] = []
        try:
            opened.extend(syscall.map_by_number(int(number)) for number in numbers[at : at + STEP])
            target.update(keys[at : at + STEP], np.array(opened, target.spec.value))
        except MapWriteError as error:
            lost += len(error.failures)
        finally:
            for fd in opened:
                os.close(fd)
    return lost
