"""A typed table of frozen rows with a primary key, secondary indexes and revisions, and the one hand that writes it.

In: rows and keys, from the writer. Out: snapshots, change streams, the news that the table is initialised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Generic, TypeVar
from weakref import WeakSet

from cilium.state.changes import Change, ChangeStream
from cilium.state.cowmap import CowMap
from cilium.state.errors import TableError, WriterError
from cilium.state.index import Index
from cilium.state.snapshot import Snapshot

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

Changes = Mapping[K, Change[K, R]]


class Table(Generic[K, R]):
    """`key` names a row; each index maps a row to the values under which `Snapshot.by` finds it.

    Rows are compared with `==` (an equal row is no change) and must never be mutated; both functions must be
    pure. The revision grows by one with every commit that changed something.
    """

    def __init__(
        self,
        name: str,
        *,
        key: Callable[[R], K],
        indexes: Mapping[str, Callable[[R], Iterable[Hashable]]] | None = None,
    ) -> None:
        self.name = name
        self.revision = 0
        self._key = key
        self._index_of = dict(indexes or {})
        self._rows: CowMap[K, R] = CowMap()
        self._indexes: dict[str, Index[K]] = {index: Index() for index in self._index_of}
        self._snapshot: Snapshot[K, R] | None = None
        self._streams: WeakSet[ChangeStream[K, R]] = WeakSet()
        self._writer: Writer[K, R] | None = None
        self._initialized = asyncio.Event()

    def __repr__(self) -> str:
        state = "initialized" if self.initialized else "not initialized"
        return f"<Table {self.name!r}: {len(self._rows)} rows, revision {self.revision}, {state}>"

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def initialized(self) -> bool:
        """Whether every source of the table has delivered what existed when it started."""
        return self._initialized.is_set()

    async def wait_initialized(self) -> None:
        await self._initialized.wait()

    def key_of(self, row: R) -> K:
        """The primary key of a row, whether it is in the table or not."""
        return self._key(row)

    def snapshot(self) -> Snapshot[K, R]:
        """The table as it is now, in O(1). The same object until the next change."""
        if self._snapshot is None:
            self._snapshot = Snapshot(table=self.name, revision=self.revision, rows=self._rows, indexes=self._indexes)
        return self._snapshot

    def changes(self, *, wake: asyncio.Event | None = None) -> ChangeStream[K, R]:
        """A new reader's stream, beginning with every row. `wake`: an event shared with other streams."""
        revision = self.revision
        pending = {key: Change(key, None, row, revision) for key, row in self._rows.items()}
        stream = ChangeStream[K, R](
            pending=pending,
            wake=wake or asyncio.Event(),
            revision=lambda: self.revision,
            initialized=self._initialized.is_set,
        )
        self._streams.add(stream)
        return stream

    def writer(self, owner: str) -> Writer[K, R]:
        """The right to write, given once; raises WriterError naming the owner who has it."""
        if self._writer is not None:
            raise WriterError(
                f"table {self.name!r} is written by {self._writer.owner!r}; {owner!r} cannot write it too"
            )
        self._writer = Writer(self, owner)
        return self._writer

    # For the writer. One transaction: planned against the present rows first, so that a failing key or index
    # function leaves the table as it was.

    def _commit(self, upserts: Iterable[R], deletes: Iterable[K]) -> int:
        changes = self._plan(upserts, deletes)
        if not changes:
            return 0
        moves = self._plan_indexes(changes)
        self._thaw()
        rows = self._rows
        for key, change in changes.items():
            if change.new is None:
                rows.discard(key)
            else:
                rows.set(key, change.new)
        for index, value, key, present in moves:
            if present:
                self._indexes[index].add(value, key)
            else:
                self._indexes[index].remove(value, key)
        self.revision += 1
        for stream in self._streams:
            stream.push(changes)
        return len(changes)

    def _plan(self, upserts: Iterable[R], deletes: Iterable[K]) -> dict[K, Change[K, R]]:
        rows, key_of, revision = self._rows, self._key, self.revision + 1
        changes: dict[K, Change[K, R]] = {}
        for key in deletes:
            old = rows.get(key)
            if old is not None:
                changes[key] = Change(key, old, None, revision)
        for row in upserts:
            if row is None:
                raise TableError(f"table {self.name!r}: None is not a row")
            key = key_of(row)
            planned = changes.get(key)
            old = rows.get(key) if planned is None else planned.old
            if old is not None and (old is row or old == row):
                changes.pop(key, None)
            else:
                changes[key] = Change(key, old, row, revision)
        return changes

    def _plan_indexes(self, changes: Changes[K, R]) -> list[tuple[str, Hashable, K, bool]]:
        moves: list[tuple[str, Hashable, K, bool]] = []
        for index, values_of in self._index_of.items():
            for key, change in changes.items():
                # dict instead of set: the order of the values, and so of the rows, stays the row's own.
                before = dict.fromkeys(values_of(change.old)) if change.old is not None else {}
                after = dict.fromkeys(values_of(change.new)) if change.new is not None else {}
                if before != after:
                    moves += [(index, value, key, False) for value in before if value not in after]
                    moves += [(index, value, key, True) for value in after if value not in before]
        return moves

    def _thaw(self) -> None:
        """The snapshot keeps the maps it was given, the table goes on with forks of them."""
        if self._snapshot is not None:
            self._rows = self._rows.fork()
            self._indexes = {name: index.fork() for name, index in self._indexes.items()}
            self._snapshot = None

    def _mark_initialized(self) -> None:
        if not self._initialized.is_set():
            self._initialized.set()
            for stream in self._streams:
                stream.poke()


class Writer(Generic[K, R]):
    """The one hand that writes a table; made by `Table.writer(owner)`.

    Every call is one transaction; `commit` takes many rows at the price of one.
    """

    def __init__(self, table: Table[K, R], owner: str) -> None:
        self.table = table
        self.owner = owner
        self._outstanding: dict[str, int] = {}

    def upsert(self, row: R) -> bool:
        """Insert or replace; whether anything changed (an equal row is no change)."""
        return self.table._commit((row,), ()) > 0

    def delete(self, key: K) -> bool:
        """Whether the row was there."""
        return self.table._commit((), (key,)) > 0

    def commit(self, upserts: Iterable[R] = (), deletes: Iterable[K] = ()) -> int:
        """One transaction, one wake-up; the number of rows that changed. All or nothing.

        Deletes are applied before upserts: a key in both is replaced. Of two upserts of one key the later
        wins.
        """
        return self.table._commit(upserts, deletes)

    def initializer(self, name: str) -> Callable[[], None]:
        """Announce a source that fills this table; the returned function says that it has, and may be called
        twice.

        Initializers are taken before any of them is done, as a rule where the writer is made: a table is
        initialised the moment none is outstanding. Raises WriterError when it already is.
        """
        if self.table.initialized:
            raise WriterError(f"table {self.table.name!r} is initialized; initializer {name!r} comes too late")
        self._outstanding[name] = self._outstanding.get(name, 0) + 1
        called = False

        def done() -> None:
            nonlocal called
            if called:
                return
            called = True
            self._outstanding[name] -= 1
            if not self._outstanding[name]:
                del self._outstanding[name]
            if not self._outstanding:
                self.table._mark_initialized()

        return done

    def outstanding(self) -> tuple[str, ...]:
        """Initializers that are not done, for the one who asks why an agent is not ready."""
        return tuple(self._outstanding)

    def ready(self) -> None:
        """The table is initialised: for a writer without initializers. Raises WriterError if some are
        outstanding.
        """
        if self._outstanding:
            names = ", ".join(self._outstanding)
            raise WriterError(f"table {self.table.name!r} is not ready: initializers outstanding: {names}")
        self.table._mark_initialized()
