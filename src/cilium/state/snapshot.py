"""A table as it was at one revision: immutable, taken in O(1).

In: the table's maps, which the table promises not to write again. Out: reads.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Generic, TypeVar

from cilium.state.cowmap import CowMap
from cilium.state.errors import TableError
from cilium.state.index import Index

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


class Snapshot(Generic[K, R]):
    """Rows of `table` at `revision`. Iteration yields rows in no particular order."""

    __slots__ = ("_indexes", "_rows", "revision", "table")

    def __init__(self, *, table: str, revision: int, rows: CowMap[K, R], indexes: Mapping[str, Index[K]]) -> None:
        self.table = table
        self.revision = revision
        self._rows = rows
        self._indexes = indexes

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: K) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[R]:
        return self._rows.values()

    def __getitem__(self, key: K) -> R:
        """Raises TableError (no KeyError: a caller that expects absence says `get`)."""
        row = self._rows.get(key)
        if row is None:
            raise TableError(f"table {self.table!r} has no row {key!r} at revision {self.revision}")
        return row

    def get(self, key: K) -> R | None:
        return self._rows.get(key)

    def keys(self) -> Iterator[K]:
        return iter(self._rows)

    def items(self) -> Iterator[tuple[K, R]]:
        return self._rows.items()

    def by(self, index: str, value: Hashable) -> list[R]:
        """The rows that carry `value` in `index`; raises TableError for an index the table does not have."""
        rows = self._rows
        return [row for key in self._index(index).keys(value) if (row := rows.get(key)) is not None]

    def values(self, index: str) -> Iterator[Hashable]:
        """Every value of `index` that at least one row carries."""
        return iter(self._index(index).values())

    def _index(self, index: str) -> Index[K]:
        try:
            return self._indexes[index]
        except KeyError:
            known = ", ".join(sorted(self._indexes)) or "none"
            raise TableError(f"table {self.table!r} has no index {index!r}; its indexes: {known}") from None
