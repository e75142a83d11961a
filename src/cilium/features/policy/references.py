"""Which policies refer to which objects: an index from both sides, kept as objects come and go.

In: references of policies (`ServicePeer`, `CIDRGroupPeer`) and changes of one kind of object. Out: the objects that a
reference means, and the policies that a change concerns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

Reference = TypeVar("Reference")
Row = TypeVar("Row")


class References(Generic[Reference, Row]):
    """`means(reference, row)`: whether that object is meant."""

    def __init__(self, means: Callable[[Reference, Row], bool]) -> None:
        self._means = means
        self._users: dict[Reference, set[str]] = {}
        self._meant: dict[Reference, set[str]] = {}
        self._of: dict[str, tuple[Reference, ...]] = {}

    def refer(self, policy: str, references: Sequence[Reference], rows: Iterable[tuple[str, Row]]) -> None:
        """What a policy refers to now; nothing: it is gone, or refers no more. New references look at `rows`."""
        for reference in self._of.pop(policy, ()):
            users = self._users[reference]
            users.discard(policy)
            if not users and reference not in references:
                del self._users[reference], self._meant[reference]
        new = [reference for reference in references if reference not in self._meant]
        for reference in references:
            self._users.setdefault(reference, set()).add(policy)
        if references:
            self._of[policy] = tuple(dict.fromkeys(references))
        if new:
            self._meant |= {reference: set() for reference in new}
            for key, row in rows:
                for reference in new:
                    if self._means(reference, row):
                        self._meant[reference].add(key)

    def change(self, key: str, row: Row | None) -> set[str]:
        """An object is new, other or gone; returns the policies that mean it or did."""
        concerned: set[str] = set()
        for reference, meant in self._meant.items():
            before = key in meant
            if row is not None and self._means(reference, row):
                meant.add(key)
            elif before:
                meant.discard(key)
            else:
                continue
            concerned |= self._users[reference]
        return concerned

    def meant(self, reference: Reference) -> list[str]:
        """Keys of the objects that a reference of some policy means."""
        return sorted(self._meant[reference])
