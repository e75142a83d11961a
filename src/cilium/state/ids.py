"""Numbers named by content: the same thing gets the same number in every life of the agent.

In: a name (bytes). Out: a number in a range. The hash of the name says where to look, the next free number is taken:
only two names of one hash can swap numbers from one life to the next, which costs a few map writes and nothing else.
"""

from __future__ import annotations

from hashlib import blake2b


class IdsExhaustedError(Exception):
    """Every number of the range is taken."""


class StableIds:
    """Allocates numbers from `first` to `last`, both included."""

    def __init__(self, *, first: int, last: int) -> None:
        self._first = first
        self._span = last - first + 1
        self._ids: dict[bytes, int] = {}
        self._taken: set[int] = set()

    def __len__(self) -> int:
        return len(self._ids)

    def get(self, name: bytes) -> int:
        """The number of `name`, allocated if it has none. Raises IdsExhaustedError."""
        number = self._ids.get(name)
        if number is not None:
            return number
        if len(self._ids) >= self._span:
            raise IdsExhaustedError(f"all {self._span} numbers from {self._first} on are in use")
        offset = int.from_bytes(blake2b(name, digest_size=8).digest(), "big") % self._span
        while self._first + offset in self._taken:
            offset = (offset + 1) % self._span
        number = self._first + offset
        self._ids[name] = number
        self._taken.add(number)
        return number

    def free(self, name: bytes) -> None:
        """`name` is gone; to free what has no number is no error."""
        number = self._ids.pop(name, None)
        if number is not None:
            self._taken.discard(number)
