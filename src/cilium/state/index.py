"""A secondary index: which primary keys carry a value.

In: the values a row had and has. Out: keys by value. Like the rows it is forked, not copied, by a snapshot.
Most values of most indexes name a handful of rows, so a handful is a plain tuple and only a crowd becomes a
map.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from cilium.state.cowmap import CowMap

K = TypeVar("K", bound=Hashable)

CROWD = 8
"""Keys of one value beyond which a tuple would be slower to change than a map."""


class Index(Generic[K]):
    """Keys by value; mutable by its owner."""

    __slots__ = ("_keys", "_owned")

    def __init__(self) -> None:
        self._keys: CowMap[Hashable, tuple[K, ...] | CowMap[K, bool]] = CowMap()
        self._owned: set[Hashable] = set()

    def fork(self) -> Index[K]:
        """An index with the same content for a new owner; from now on `self` must not be written."""
        other: Index[K] = Index.__new__(Index)
        other._keys = self._keys.fork()
        other._owned = set()
        return other

    def keys(self, value: Hashable) -> Iterable[K]:
        return self._keys.get(value, ())

    def values(self) -> Iterable[Hashable]:
        """Every value that at least one row carries."""
        return self._keys

    def add(self, value: Hashable, key: K) -> None:
        match self._keys.get(value, ()):
            case CowMap():
                self._crowd(value).set(key, True)
            case keys if len(keys) < CROWD:
                self._keys.set(value, (*keys, key))
            case keys:
                crowd: CowMap[K, bool] = CowMap()
                for known in (*keys, key):
                    crowd.set(known, True)
                self._keys.set(value, crowd)
                self._owned.add(value)

    def remove(self, value: Hashable, key: K) -> None:
        keys = self._keys.get(value, ())
        if isinstance(keys, CowMap):
            crowd = self._crowd(value)
            crowd.discard(key)
            rest = tuple(crowd) if len(crowd) <= CROWD // 2 else None
        else:
            rest = tuple(known for known in keys if known != key)
        if rest is None:
            return
        self._owned.discard(value)
        if rest:
            self._keys.set(value, rest)
        else:
            self._keys.discard(value)

    def _crowd(self, value: Hashable) -> CowMap[K, bool]:
        crowd = self._keys.get(value)
        assert isinstance(crowd, CowMap)
        if value not in self._owned:
            crowd = crowd.fork()
            self._keys.set(value, crowd)
            self._owned.add(value)
        return crowd
