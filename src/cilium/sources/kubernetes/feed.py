"""Objects into a table: the part of a reflector that needs no network.

In: whole lists and single events of one resource, as JSON. Out: commits on a writer, which other feeds may share.

A feed knows which rows are its own. A list deletes what it put there before and does not find again, and nothing else;
rows that are as they were cause no change. An object that cannot be read keeps the row of its last readable version:
one bad write to the API must not cut off what works.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import msgspec

from cilium.protocols.kubernetes import Event, parse_meta
from cilium.sources.kubernetes.errors import ObjectError
from cilium.sources.kubernetes.quarantine import Quarantine
from cilium.state import Writer

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

Decode = Callable[[bytes | msgspec.Raw], R | None]
Merge = Callable[[R | None, R], R]
"""What enters the table, given the present row and the new one."""

EMPTY: Mapping[str, Any] = MappingProxyType({})


class Feed(Generic[K, R]):
    """`resource` names the objects for people, e.g. `pods`."""

    def __init__(
        self, resource: str, *, writer: Writer[K, R], decode: Decode[R], merge: Merge[R] | None = None
    ) -> None:
        self.quarantine = Quarantine(resource)
        self._writer = writer
        self._decode = decode
        self._merge = merge
        self._keys: dict[str, K] = {}
        """Key of our row by the object's namespace/name."""
        self._listed: dict[str, R | None] = {}

    def __len__(self) -> int:
        """How many rows of the table are ours."""
        return len(self._keys)

    def page(self, objects: Iterable[msgspec.Raw], *, first: bool, last: bool) -> None:
        """One page of a list; the table changes with the last one."""
        if first:
            self._listed = {}
        for raw in objects:
            name, row = self._read(raw)
            self._listed[name] = row
        if last:
            listed, self._listed = self._listed, {}
            self.quarantine.retain(set(listed))
            gone = [name for name in self._keys if name not in listed]
            self._commit(listed, gone)

    def events(self, events: Iterable[Event]) -> None:
        """What a watch delivered together, in one commit."""
        rows: dict[str, R | None] = {}
        gone: dict[str, None] = {}
        for event in events:
            if event.deleted:
                name = _name(event.raw)
                self.quarantine.release(name)
                rows.pop(name, None)
                gone[name] = None
            else:
                name, row = self._read(event.raw, before=rows)
                if row is None and name in self.quarantine:
                    continue  # what this batch said of the object so far stands
                rows[name] = row
                gone.pop(name, None)
        self._commit(rows, gone)

    def _read(self, raw: msgspec.Raw, before: Mapping[str, R | None] = EMPTY) -> tuple[str, R | None]:
        """The object's name and row; None if it has no row, or keeps the one it has.

        `before`: rows that this commit already has and the table does not, by name.
        """
        name = _name(raw)
        try:
            row = self._decode(raw)
        except Exception as error:  # whatever a stranger's object does to a decoder, it does to that object alone
            expected = isinstance(error, msgspec.DecodeError | ObjectError)
            self.quarantine.put(
                name, str(error) if expected else repr(error), kept=name in self._keys or name in before
            )
            return name, None
        self.quarantine.release(name)
        if row is not None and self._merge is not None:
            table = self._writer.table
            row = self._merge(before.get(name) or table.snapshot().get(table.key_of(row)), row)
        return name, row

    def _commit(self, rows: dict[str, R | None], gone: Iterable[str]) -> None:
        table = self._writer.table
        deletes = [self._keys.pop(name) for name in gone if name in self._keys]
        upserts: list[R] = []
        for name, row in rows.items():
            if row is None:
                if name in self._keys and name not in self.quarantine:
                    deletes.append(self._keys.pop(name))
                continue
            key = table.key_of(row)
            former = self._keys.get(name, key)
            if former != key:
                deletes.append(former)
            self._keys[name] = key
            upserts.append(row)
        self._writer.commit(upserts, deletes)


def _name(raw: msgspec.Raw) -> str:
    try:
        return parse_meta(raw).path or "(no name)"
    except msgspec.DecodeError:
        return "(no metadata)"
