"""What happened to a table, for one reader.

In: the changes of every commit. Out: per key the difference between what this reader has read and what is
now, however many commits lie between: a slow reader costs memory per row, never per commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


class Change(msgspec.Struct, Generic[K, R], frozen=True, gc=False):
    """`old` None: inserted; `new` None: deleted. `revision` is that of the commit that made `new`."""

    key: K
    old: R | None
    new: R | None
    revision: int


class RowChanges(msgspec.Struct, Generic[K, R], frozen=True):
    """What a compute function asks of one output: deletes are applied before upserts."""

    upserts: Iterable[R] = ()
    deletes: Iterable[K] = ()


class ChangeStream(Generic[K, R]):
    """One reader's changes; made by `Table.changes()`, forgotten by the table with its last reference.

    The first read yields every row as an insertion. A row that came and went, or changed and changed back,
    between two reads was never there for this reader.
    """

    def __init__(
        self,
        *,
        pending: dict[K, Change[K, R]],
        wake: asyncio.Event,
        revision: Callable[[], int],
        initialized: Callable[[], bool],
    ) -> None:
        self._pending = pending
        self._wake = wake
        self._revision = revision
        self._initialized = initialized
        self.revision = 0
        """Table revision up to which this reader has read."""
        self.seen_initialized = False
        """The last read covered an initialised table: the reader has seen it in full."""
        wake.set()

    def __len__(self) -> int:
        return len(self._pending)

    def is_pending(self, key: K) -> bool:
        """Whether something happened to `key` that this reader has not read."""
        return key in self._pending

    def pop(self) -> list[Change[K, R]]:
        """What happened since the last pop, at most one change per key; empty if nothing did."""
        self._wake.clear()
        self.revision = self._revision()
        self.seen_initialized = self._initialized()
        pending, self._pending = self._pending, {}
        return list(pending.values())

    async def wait(self) -> None:
        """Returns at the next commit, or when the table becomes initialised, unless that already happened
        since pop.

        The following pop may still be empty: changes can cancel each other out.
        """
        await self._wake.wait()

    def push(self, changes: Mapping[K, Change[K, R]]) -> None:
        """For the table: a commit happened."""
        pending = self._pending
        if pending:
            for change in changes.values():
                _coalesce(pending, change)
        else:
            self._pending = dict(changes)
        self._wake.set()

    def poke(self) -> None:
        """For the table: it is initialised now."""
        self._wake.set()


def _coalesce(pending: dict[K, Change[K, R]], change: Change[K, R]) -> None:
    earlier = pending.get(change.key)
    if earlier is None:
        pending[change.key] = change
    elif earlier.old == change.new:  # also None: came and went
        del pending[change.key]
    else:
        pending[change.key] = Change(change.key, earlier.old, change.new, change.revision)
