"""A hash map that can be frozen in O(1): dicts in buckets, copied on the first write after a freeze.

In: writes of one owner. Out: `fork()`, a second map with the same content, after which neither sees the
other's writes.

Why not a persistent trie: with 10,000 rows an `rpds.HashTrieMap` takes 26 ms to fill and 16 ms to walk, this
takes 4 ms and 0.1 ms, because whole dicts do the work; a single write costs both 2 µs (docs/adr/0006-table-storage.md).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from itertools import chain
from typing import Generic, TypeVar, overload

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")

BUCKET_ROWS = 256
"""Mean size of a bucket at which the map gets four times as many."""


class CowMap(Generic[K, V]):
    """Mutable by its owner; `None` is not a value."""

    __slots__ = ("_buckets", "_mask", "_owned", "_size")

    def __init__(self) -> None:
        self._buckets: list[dict[K, V]] = [{}]
        self._owned = bytearray(b"\x01")
        self._mask = 0
        self._size = 0

    def fork(self) -> CowMap[K, V]:
        """A map with the same content for a new owner; from now on `self` must not be written."""
        other: CowMap[K, V] = CowMap.__new__(CowMap)
        other._buckets = self._buckets.copy()
        other._owned = bytearray(len(self._buckets))
        other._mask = self._mask
        other._size = self._size
        return other

    def __len__(self) -> int:
        return self._size

    def __contains__(self, key: K) -> bool:
        return key in self._buckets[hash(key) & self._mask]

    def __iter__(self) -> Iterator[K]:
        return chain.from_iterable(self._buckets)

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: D | None = None) -> V | D | None:
        return self._buckets[hash(key) & self._mask].get(key, default)

    def values(self) -> Iterator[V]:
        return chain.from_iterable([bucket.values() for bucket in self._buckets])

    def items(self) -> Iterator[tuple[K, V]]:
        return chain.from_iterable([bucket.items() for bucket in self._buckets])

    def set(self, key: K, value: V) -> None:
        bucket = self._writable(hash(key) & self._mask)
        before = len(bucket)
        bucket[key] = value
        if len(bucket) != before:
            self._size += 1
            if self._size > BUCKET_ROWS * len(self._buckets):
                self._grow()

    def discard(self, key: K) -> None:
        bucket = self._writable(hash(key) & self._mask)
        if key in bucket:
            del bucket[key]
            self._size -= 1

    def _writable(self, index: int) -> dict[K, V]:
        if self._owned[index]:
            return self._buckets[index]
        bucket = self._buckets[index] = self._buckets[index].copy()
        self._owned[index] = 1
        return bucket

    def _grow(self) -> None:
        count = len(self._buckets) * 4
        buckets: list[dict[K, V]] = [{} for _ in range(count)]
        mask = count - 1
        for key, value in self.items():
            buckets[hash(key) & mask][key] = value
        self._buckets, self._mask, self._owned = buckets, mask, bytearray(b"\x01" * count)
