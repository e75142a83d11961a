"""Names outlive what they name: flows are read after a pod, an identity or a service is gone.

Owns: `Remembering`. Comes in: keys learned and forgotten. Goes out: values, of forgotten keys too for a while.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

REMEMBERED = 4096
"""Forgotten keys that can still be asked for, the latest ones."""

K = TypeVar("K")
V = TypeVar("V")


class Remembering(dict[K, V]):
    """A dictionary whose forgotten keys can still be asked for, the latest `REMEMBERED` of them."""

    def __init__(self) -> None:
        super().__init__()
        self._gone: dict[K, V] = {}

    def learn(self, key: K, value: V) -> None:
        self[key] = value
        self._gone.pop(key, None)

    def forget(self, key: K) -> None:
        if key in self:
            self._gone[key] = self.pop(key)
            if len(self._gone) > REMEMBERED:
                del self._gone[next(iter(self._gone))]

    def recall(self, key: K) -> V | None:
        value = self.get(key)
        return self._gone.get(key) if value is None else value

    def with_gone(self) -> Iterable[tuple[K, V]]:
        yield from self._gone.items()
        yield from self.items()
