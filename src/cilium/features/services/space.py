"""Room in the maps of services: numbers that are taken one by one, and ranges of slots.

In: sizes and what is taken. Out: free numbers and ranges, the lowest that fit. What is given back rests for a while
before it is used again: a program that read a service's row a moment ago may still follow it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence


class NoRoomError(Exception):
    """Everything is taken; the message says what and how it grows."""

    def __init__(self, name: str, size: int, remedy: str, wanted: int = 1) -> None:
        super().__init__(f"{name} has no room for {wanted} more of {size}: {remedy}")


class Space:
    """Indexes `first`..`size` - 1. `rest` in seconds of `clock`; `remedy` completes the error when it is full."""

    def __init__(
        self, name: str, *, size: int, remedy: str, clock: Callable[[], float], first: int = 0, rest: float = 1.0
    ) -> None:
        self._name, self._size, self._first, self._remedy = name, size, first, remedy
        self._clock, self._rest = clock, rest
        self._starts: list[int] = []
        self._lengths: dict[int, int] = {}
        self._resting: deque[tuple[float, int, int]] = deque()
        self.take([])

    def take(self, used: Iterable[tuple[int, int]]) -> None:
        """Begin anew with these (start, length) taken, and what rests. Those that were given back and are among them
        again are in use: what was to let them go failed.
        """
        taken = sorted(used)
        self._resting = deque(each for each in self._resting if not meets(taken, each[1], each[2]))
        taken = sorted([*taken, *((start, length) for _, start, length in self._resting)])
        self._starts, self._lengths = [], {}
        position = self._first
        for start, length in taken:
            self._insert(position, min(start, self._size) - position)
            position = max(position, start + length)
        self._insert(position, self._size - position)

    def allocate(self, length: int = 1) -> int:
        """The start of a free range. Raises NoRoomError."""
        self._wake()
        for place, start in enumerate(self._starts):
            room = self._lengths[start]
            if room >= length:
                del self._starts[place], self._lengths[start]
                self._insert(start + length, room - length)
                return start
        raise NoRoomError(self._name, self._size, self._remedy, length)

    def free(self, start: int, length: int = 1) -> None:
        """Give back; it rests first. What is beyond the ends, as of a map that was larger, is nobody's."""
        start, end = max(start, self._first), min(start + length, self._size)
        if start < end:
            self._resting.append((self._clock() + self._rest, start, end - start))

    def _wake(self) -> None:
        now = self._clock()
        while self._resting and self._resting[0][0] <= now:
            _, start, length = self._resting.popleft()
            self._join(start, length)

    def _insert(self, start: int, length: int) -> None:
        if length > 0:
            self._starts.insert(bisect_left(self._starts, start), start)
            self._lengths[start] = length

    def _join(self, start: int, length: int) -> None:
        """Insert, grown together with free neighbours."""
        place = bisect_left(self._starts, start)
        if place < len(self._starts) and self._starts[place] == start + length:
            length += self._lengths.pop(self._starts.pop(place))
        if place and self._starts[place - 1] + self._lengths[self._starts[place - 1]] == start:
            before = self._starts.pop(place - 1)
            start, length = before, length + self._lengths.pop(before)
        self._insert(start, length)


def meets(ranges: Sequence[tuple[int, int]], start: int, length: int) -> bool:
    """Whether one of these (start, length), which are sorted and apart from each other, has a part of that."""
    place = bisect_left(ranges, (start + length, 0)) - 1
    return place >= 0 and sum(ranges[place]) > start
