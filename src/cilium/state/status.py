"""How far the world follows a row, and when to try again.

In: outcomes of operations. Out: rows of the reconciler's status table; the retries that are due.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from enum import Enum
from typing import Generic, TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


class Kind(Enum):
    PENDING = "Pending"
    DONE = "Done"
    ERROR = "Error"


class RowStatus(msgspec.Struct, Generic[K], frozen=True, gc=False):
    """Table `<reconciler>-status`, key `key`. A deleted row keeps its status until the deletion succeeded."""

    key: K
    kind: Kind
    revision: int
    """Of the table, at which the row took the value that this is about."""
    error: str = ""
    attempts: int = 0
    """That failed in a row."""


class Wish(msgspec.Struct, Generic[K, R], frozen=True, gc=False):
    """What the table wants of one key: `row` there, or (delete) gone."""

    key: K
    row: R
    delete: bool
    revision: int
    attempts: int = 0


class Retries(Generic[K, R]):
    """Failed wishes by the time of their next attempt; a newer wish for a key displaces the older one."""

    def __init__(self, *, minimum: float, maximum: float) -> None:
        self._minimum, self._maximum = minimum, maximum
        self._wishes: dict[K, tuple[int, Wish[K, R]]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = 0

    def __len__(self) -> int:
        return len(self._wishes)

    def delay(self, attempts: int) -> float:
        """Seconds to wait after `attempts` failures: doubles from the minimum to the maximum."""
        return min(self._maximum, self._minimum * 2.0 ** min(attempts - 1, 60))

    def add(self, wish: Wish[K, R], now: float) -> None:
        self._order += 1
        self._wishes[wish.key] = (self._order, wish)
        heapq.heappush(self._heap, (now + self.delay(wish.attempts), self._order, wish.key))

    def displace(self, key: K) -> None:
        """Forget what was wanted of `key`: something else is, now."""
        self._wishes.pop(key, None)

    def pop(self, now: float) -> list[Wish[K, R]]:
        """The wishes whose time has come."""
        due = []
        while self._heap and (self._stale() or self._heap[0][0] <= now):
            _, order, key = heapq.heappop(self._heap)
            entry = self._wishes.get(key)
            if entry is not None and entry[0] == order:
                due.append(entry[1])
                del self._wishes[key]
        return due

    def next_due(self) -> float | None:
        while self._heap and self._stale():
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _stale(self) -> bool:
        _, order, key = self._heap[0]
        entry = self._wishes.get(key)
        return entry is None or entry[0] != order
