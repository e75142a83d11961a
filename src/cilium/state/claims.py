"""Keys that several owners may want, of which one gets each: the first in an order that everybody sees the same.

In: what each owner claims. Out: which keys that touches, and who claims a key in which order. For compute functions.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from cilium.state.changes import RowChanges

K = TypeVar("K", bound=Hashable)
O = TypeVar("O", bound=Hashable)  # noqa: E741 - an owner
R = TypeVar("R")


class Claims(Generic[K, O, R]):
    """Rows by key, claimed by owners. `order` sorts the owners of one key; equal orders are sorted by nothing else."""

    def __init__(self) -> None:
        self._keys: dict[O, tuple[K, ...]] = {}
        self._holders: dict[K, dict[O, tuple[Any, R]]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._holders

    def replace(self, owner: O, order: Any, rows: Mapping[K, R]) -> set[K]:
        """What `owner` claims from now on, instead of what it claimed; returns the keys that may have changed."""
        old = self._keys.pop(owner, ())
        for key in old:
            if key not in rows:
                holders = self._holders[key]
                del holders[owner]
                if not holders:
                    del self._holders[key]
        for key, row in rows.items():
            self._holders.setdefault(key, {})[owner] = (order, row)
        if rows:
            self._keys[owner] = tuple(rows)
        return {*old, *rows}

    def drop(self, owner: O) -> set[K]:
        """`owner` claims nothing any more; returns the keys that may have changed."""
        return self.replace(owner, None, {})

    def of(self, key: K) -> list[tuple[O, R]]:
        """Who claims a key, the one that gets it first."""
        holders = self._holders.get(key, {})
        ordered = sorted(holders.items(), key=lambda holder: holder[1][0]) if len(holders) > 1 else holders.items()
        return [(owner, row) for owner, (_, row) in ordered]

    def changes(self, keys: Iterable[K]) -> RowChanges[Any, Any]:
        """What becomes of these keys: the row of the first that claims it, or none."""
        upserts, deletes = [], []
        for key in keys:
            holders = self.of(key)
            if holders:
                upserts.append(holders[0][1])
            else:
                deletes.append(key)
        return RowChanges(upserts=upserts, deletes=deletes)

    def keys_of(self, owner: O) -> tuple[K, ...]:
        """What an owner claims, whether it gets it or not."""
        return self._keys.get(owner, ())
