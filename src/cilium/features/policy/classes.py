"""The classes in use: sets of verdicts, shared by every policy and identity for which the same rules speak.

In: sets of atoms. Out: class ids, and `PolicyClass` rows to write and to delete.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from pyroaring import BitMap

from cilium.features.policy.rows import PolicyClass, Verdict
from cilium.features.policy.verdicts import Atom, resolve
from cilium.state.ids import StableIds
from cilium.tables.types import ClassId

NOTHING = ClassId(0)
"""The class of those whom no rule lets pass: it has no rows."""
_REMEMBERED = 20_000
"""Sets of atoms whose class is kept at hand."""

_encoder = msgspec.msgpack.Encoder()


class Classes:
    """Names classes by content and counts their uses."""

    def __init__(self, atoms: Callable[[int], Atom]) -> None:
        self._atom = atoms
        self._ids = StableIds(first=1, last=0xFFFF_FFFF)
        self._known: dict[bytes, ClassId] = {}
        self._rows: dict[ClassId, PolicyClass] = {}
        self._names: dict[ClassId, bytes] = {}
        self._uses: dict[ClassId, int] = {}
        self._published: set[ClassId] = set()
        self._touched: set[ClassId] = set()

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, atoms: BitMap) -> ClassId:
        """The class of everyone whom exactly these atoms are about."""
        key = atoms.serialize()
        number = self._known.get(key)
        if number is None:
            if len(self._known) > _REMEMBERED:
                self._known.clear()
            number = self._known[key] = self._named(resolve(map(self._atom, atoms)))
        return number

    def use(self, number: ClassId, count: int = 1) -> None:
        """`count` more entries name this class (fewer if negative)."""
        if number:
            self._uses[number] = self._uses.get(number, 0) + count
            self._touched.add(number)

    def flush(self) -> tuple[list[PolicyClass], list[int]]:
        """Rows to write, keys to delete; what is not in use is forgotten."""
        upserts: list[PolicyClass] = []
        deletes: list[int] = []
        unused = False
        for number in sorted(self._touched):
            if self._uses[number]:
                if number not in self._published:
                    self._published.add(number)
                    upserts.append(self._rows[number])
                continue
            unused = True
            del self._uses[number], self._rows[number]
            self._ids.free(self._names.pop(number))
            if number in self._published:
                self._published.remove(number)
                deletes.append(number)
        self._touched.clear()
        if unused:
            self._known = {key: number for key, number in self._known.items() if not number or number in self._rows}
        return upserts, deletes

    def _named(self, verdicts: tuple[Verdict, ...]) -> ClassId:
        if not verdicts:
            return NOTHING
        name = _encoder.encode(verdicts)
        number = ClassId(self._ids.get(name))
        if number not in self._rows:
            self._rows[number] = PolicyClass(number, verdicts)
            self._names[number] = name
            self.use(number, 0)
        return number
