"""The one hand that writes a table.

In: rows and keys of the owner. Out: transactions on the table, and the word that it is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

from cilium.state.errors import WriterError

if TYPE_CHECKING:
    from cilium.state.table import Table

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


class Writer(Generic[K, R]):
    """Made by `Table.writer(owner)`. Every call is one transaction; `commit` takes many rows at the price
    of one.
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
