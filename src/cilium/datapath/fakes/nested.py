"""Maps of arrays in memory, with faults on demand: a `nested.NestedMap`."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import numpy as np

from cilium.datapath.errors import NoSuchEntry
from cilium.datapath.fakes.maps import FakeMap
from cilium.datapath.maps import Array
from cilium.datapath.mapspec import MapSpec


class FakeNestedMap:
    """`outer` holds a number under every key, as the kernel's own does: its faults and its capacity are this one's.

    `made` counts the arrays that were made.
    """

    def __init__(self, spec: MapSpec | str) -> None:
        self.outer = FakeMap(spec)
        self.made = 0
        self._arrays: dict[int, Array] = {}

    @property
    def spec(self) -> MapSpec:
        return self.outer.spec

    def update(self, keys: Array, arrays: Sequence[Array], which: Sequence[int]) -> None:
        """See NestedMap."""
        first = self.made + 1
        for array in arrays:
            self.made += 1
            self._arrays[self.made] = np.array(array, self.spec.inner.value if self.spec.inner else None)
        try:
            self.outer.update(keys, np.array([first + index for index in which], self.spec.value))
        finally:
            self._forget()

    def delete(self, keys: Array) -> None:
        """See NestedMap."""
        try:
            self.outer.delete(keys)
        finally:
            self._forget()

    def dump(self) -> tuple[Array, Array]:
        """See NestedMap."""
        return self.outer.dump()

    def content(self, number: int) -> Array:
        """See NestedMap."""
        if number not in self._arrays:
            raise NoSuchEntry(f"open the map with id {number}", errno.ENOENT)
        return self._arrays[number].copy()

    def _forget(self) -> None:
        """Arrays that no key names any more."""
        _, numbers = self.outer.dump()
        self._arrays = {number: self._arrays[number] for number in set(numbers.tolist()) if number in self._arrays}
