"""Maps that are lists: a key is there or not, and belongs to a service.

In: what the lists shall say of services. Out: keys added and removed. Adding comes before the service's row and
removing after it, so while a list changes it says the old and the new at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from cilium.datapath.errors import KernelError, MapFull
from cilium.datapath.maps import Array, BpfMap, MapWriteError
from cilium.features.services.records import (
    Ids,
    Place,
    match_keys,
    numbers_in,
    place_of,
    places_in,
    range_keys,
    raw,
    skip_keys,
)
from cilium.features.services.space import NoRoomError
from cilium.tables.services import Frontend, Scope

NOTHING: frozenset[bytes] = frozenset()
NOWHERE: Place = (b"", 0, 0)
Owner = TypeVar("Owner", bound=Hashable)


class Listed(Generic[Owner]):
    """One map. `owners`: whose the keys are; `remedy` completes the error when it is full."""

    def __init__(self, port: BpfMap, *, owners: Callable[[Array], Iterable[Owner]], remedy: str) -> None:
        self._port, self._owners, self._remedy = port, owners, remedy
        self.held: dict[Owner, set[bytes]] = {}
        """By owner; nobody without a key is in it."""

    def read(self) -> None:
        keys, _ = self._port.dump()
        self.held = {}
        self._note(keys)

    def add(self, keys: Collection[bytes]) -> dict[bytes, Exception]:
        """The failures by key."""
        array, failures = self._array(keys), {}
        if keys:
            try:
                self._port.update(array, np.ones(len(array), self._port.spec.value))
            except MapWriteError as error:
                failures = error.failures
            self._note(np.delete(array, list(failures)))
        return {array[index].tobytes(): self._explained(error) for index, error in failures.items()}

    def remove(self, keys: Collection[bytes]) -> dict[bytes, Exception]:
        array, failures = self._array(keys), {}
        if keys:
            try:
                self._port.delete(array)
            except MapWriteError as error:
                failures = error.failures
            gone = np.delete(array, list(failures))
            for owner, key in zip(self._owners(gone), raw(gone), strict=True):
                left = self.held.get(owner, set())
                left.discard(key)
                if not left:
                    self.held.pop(owner, None)
        return {array[index].tobytes(): error for index, error in failures.items()}

    def _note(self, keys: Array) -> None:
        for owner, key in zip(self._owners(keys), raw(keys), strict=True):
            self.held.setdefault(owner, set()).add(key)

    def _array(self, keys: Collection[bytes]) -> Array:
        return np.frombuffer(b"".join(keys), self._port.spec.key)

    def _explained(self, error: KernelError) -> Exception:
        if not isinstance(error, MapFull):
            return error
        return NoRoomError(self._port.spec.name, self._port.spec.max_entries, self._remedy)


@dataclass(frozen=True, slots=True)
class Listing:
    """What the lists shall say of one service: by list, whose keys, and which."""

    owners: tuple[int, int, Place]
    keys: tuple[frozenset[bytes], ...] = (NOTHING, NOTHING, NOTHING)

    @classmethod
    def of(cls, number: int, row: Frontend | None = None) -> Listing:
        """Nothing, of the service with this id and, if it is given, of this row."""
        # Only who asks inside can be of a network namespace that is known here.
        inside = row is not None and row.scope is Scope.CLUSTER
        return cls((number, number, place_of(row) if row is not None and inside else NOWHERE))


class Added:
    """What was added, by whatever names the listings, to be taken back where the rest of a change fails."""

    def __init__(self) -> None:
        self.errors: dict[int, Exception] = {}
        self._keys: dict[int, list[tuple[Listed[Any], AbstractSet[bytes]]]] = {}

    def note(self, index: int, target: Listed[Any], keys: AbstractSet[bytes]) -> None:
        self._keys.setdefault(index, []).append((target, keys))

    def undo(self, indexes: Iterable[int]) -> None:
        """What cannot be taken back now goes when the service is trimmed."""
        for index in indexes:
            for target, keys in self._keys.pop(index, ()):
                target.remove(keys)


class ServiceLists:
    """Backends that clients may stay with, who may ask, and pods that mean the address itself."""

    def __init__(self, *, match: BpfMap, ranges: BpfMap, skip: BpfMap) -> None:
        self._match = Listed(match, owners=numbers_in, remedy="raise bpf.lbAffinityMapMax")
        self._ranges = Listed(ranges, owners=numbers_in, remedy="raise bpf.lbSourceRangeMapMax")
        self._skip = Listed(skip, owners=places_in, remedy="let fewer pods of this node be backends of local redirects")
        self._lists: tuple[Listed[Any], ...] = (self._match, self._ranges, self._skip)

    def read(self) -> None:
        for each in self._lists:
            each.read()

    def numbers(self) -> set[int]:
        """Ids of services of which they say something."""
        return {owner for each in (self._match, self._ranges) for owner in each.held}

    def listing(self, row: Frontend, number: int, slots: Ids) -> Listing:
        """Of a service that has this id and these slots."""
        match = frozenset(raw(match_keys(number, slots))) if row.affinity_timeout else NOTHING
        ranges = frozenset(raw(range_keys(number, row))) if row.source_ranges else NOTHING
        owners = Listing.of(number, row).owners
        skips = frozenset(raw(skip_keys(row))) if row.skip_netns and owners[-1] is not NOWHERE else NOTHING
        return Listing(owners, (match, ranges, skips))

    def right(self, listing: Listing) -> bool:
        """Whether they say exactly that."""
        return all(
            each.held.get(owner, NOTHING) == keys
            for each, owner, keys in zip(self._lists, listing.owners, listing.keys, strict=True)
        )

    def clear_places(self, wanted: AbstractSet[Place]) -> dict[Place, Exception]:
        """No pod means an address that is none of these; the failures."""
        strange = [place for place in self._skip.held if place not in wanted]
        errors = self.trim({index: Listing((0, 0, place)) for index, place in enumerate(strange)})
        return {strange[index]: error for index, error in errors.items()}

    def add(self, listings: Mapping[int, Listing]) -> Added:
        """What is missing. If a part of a listing fails, it is among the errors, and the rest is to be undone."""
        added = Added()
        for part, each in enumerate(self._lists):
            missing = {
                index: listing.keys[part] - each.held.get(listing.owners[part], NOTHING)
                for index, listing in listings.items()
                if listing.keys[part] and index not in added.errors
            }
            failures = each.add([key for keys in missing.values() for key in keys])
            for index, keys in missing.items():
                added.note(index, each, keys)
                errors = [failures[key] for key in keys if key in failures]
                if errors:
                    added.errors[index] = errors[0]
        return added

    def trim(self, listings: Mapping[int, Listing]) -> dict[int, Exception]:
        """What is too much goes; the failures."""
        errors: dict[int, Exception] = {}
        for part, each in enumerate(self._lists):
            surplus = {
                index: each.held[listing.owners[part]] - listing.keys[part]
                for index, listing in listings.items()
                if listing.owners[part] in each.held
            }
            failures = each.remove([key for keys in surplus.values() for key in keys])
            errors |= {index: failures[key] for index, keys in surplus.items() for key in keys if key in failures}
        return errors
