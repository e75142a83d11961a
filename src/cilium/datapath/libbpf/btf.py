"""BTF: the types of an object file or of the kernel, as Python objects.

In: the raw bytes of a .BTF section (Documentation/bpf/btf.rst). Out: `Btf`, types by id and by name; `resolve` strips
typedefs and qualifiers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

MAGIC = 0xEB9F
HEADER = struct.Struct("<HBBIIIII")
TYPE = struct.Struct("<III")


class Kind(IntEnum):
    """BTF_KIND_*."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


MODIFIERS = frozenset({Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG})
# Bytes that follow the common header: per member of the type, or once.
_MEMBER_SIZE = {Kind.STRUCT: 12, Kind.UNION: 12, Kind.ENUM: 8, Kind.ENUM64: 12, Kind.DATASEC: 12, Kind.FUNC_PROTO: 8}
_TAIL_SIZE = {Kind.INT: 4, Kind.ARRAY: 12, Kind.VAR: 4, Kind.DECL_TAG: 4}


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a struct or union (`offset` in bits), or a variable of a data section (`offset` in bytes)."""

    name: str
    type_id: int
    offset: int
    size: int = 0


@dataclass(frozen=True, slots=True)
class Type:
    """One BTF type; which fields mean something depends on `kind`."""

    id: int
    kind: Kind
    name: str
    size: int = 0
    """Bytes, for kinds with a size of their own."""
    target: int = 0
    """Referenced type, for pointers, modifiers, variables, functions, and the element of an array."""
    length: int = 0
    """Elements of an array."""
    signed: bool = False
    members: tuple[Member, ...] = ()
    enumerators: tuple[tuple[str, int], ...] = ()


_VOID = Type(0, Kind.VOID, "void")


class BtfError(ValueError):
    """The bytes are no BTF that we can read."""


class Btf:
    """Types by id (`btf[5]`) and by name (`btf.find(Kind.STRUCT, "endpoint")`)."""

    def __init__(self, raw: bytes) -> None:
        """Raises BtfError."""
        if len(raw) < HEADER.size:
            raise BtfError(f"BTF of {len(raw)} bytes is shorter than its header")
        magic, _version, _flags, header_size, type_offset, type_size, string_offset, string_size = HEADER.unpack_from(
            raw
        )
        if magic != MAGIC:
            raise BtfError(f"BTF magic is {magic:#06x}, expected {MAGIC:#06x} (another byte order?)")
        start = header_size + string_offset
        self._strings = raw[start : start + string_size]
        start = header_size + type_offset
        self._types: list[Type] = [_VOID, *self._parse(raw[start : start + type_size])]
        self._by_name = {(t.kind, t.name): t for t in reversed(self._types) if t.name}

    def __getitem__(self, type_id: int) -> Type:
        return self._types[type_id]

    def __iter__(self) -> Iterator[Type]:
        return iter(self._types)

    def find(self, kind: Kind, name: str) -> Type | None:
        return self._by_name.get((kind, name))

    def resolve(self, type_id: int) -> Type:
        """The type behind typedefs, const, volatile and type tags."""
        found = self._types[type_id]
        while found.kind in MODIFIERS:
            found = self._types[found.target]
        return found

    def typedef_names(self, type_id: int) -> Iterator[str]:
        """Names of the typedefs on the way to `resolve(type_id)`, outermost first."""
        found = self._types[type_id]
        while found.kind in MODIFIERS:
            if found.kind is Kind.TYPEDEF:
                yield found.name
            found = self._types[found.target]

    def variables(self, section: str) -> dict[str, Member]:
        """The variables of a data section such as `.rodata`, by name; `type_id` is the variable's own type."""
        found = self.find(Kind.DATASEC, section)
        if found is None:
            return {}
        named = ((self._types[m.type_id], m) for m in found.members)
        return {v.name: Member(v.name, v.target, m.offset, m.size) for v, m in named}

    def size_of(self, type_id: int) -> int:
        """Bytes that a value of the type takes."""
        found = self.resolve(type_id)
        if found.kind is Kind.ARRAY:
            return found.length * self.size_of(found.target)
        return 8 if found.kind is Kind.PTR else found.size

    def _string(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _parse(self, data: bytes) -> Iterator[Type]:
        position, type_id = 0, 0
        while position < len(data):
            type_id += 1
            name_offset, info, size_or_type = TYPE.unpack_from(data, position)
            position += TYPE.size
            try:
                kind = Kind(info >> 24 & 0x1F)
            except ValueError:
                raise BtfError(f"BTF type {type_id} is of the unknown kind {info >> 24 & 0x1F}") from None
            vlen, flag = info & 0xFFFF, bool(info >> 31)
            tail = data[position : position + _TAIL_SIZE.get(kind, 0) + vlen * _MEMBER_SIZE.get(kind, 0)]
            position += len(tail)
            yield self._type(type_id, kind, self._string(name_offset), size_or_type, flag, tail)

    def _type(self, type_id: int, kind: Kind, name: str, size_or_type: int, flag: bool, tail: bytes) -> Type:
        match kind:
            case Kind.STRUCT | Kind.UNION:
                # With the flag set the upper byte of an offset is the width of a bit field.
                mask = 0xFFFFFF if flag else 0xFFFFFFFF
                members = tuple(Member(self._string(n), t, o & mask) for n, t, o in struct.iter_unpack("<III", tail))
                return Type(type_id, kind, name, size=size_or_type, members=members)
            case Kind.DATASEC:
                # Variables are named by their own types, which may come later: `variables` fills the names in.
                placed = tuple(Member("", t, o, s) for t, o, s in struct.iter_unpack("<III", tail))
                return Type(type_id, kind, name, size=size_or_type, members=placed)
            case Kind.ENUM:
                values = struct.iter_unpack("<Ii" if flag else "<II", tail)
                pairs = tuple((self._string(n), v) for n, v in values)
                return Type(type_id, kind, name, size=size_or_type, signed=flag, enumerators=pairs)
            case Kind.ENUM64:
                wide = struct.iter_unpack("<Iq" if flag else "<IQ", tail)
                pairs = tuple((self._string(n), v) for n, v in wide)
                return Type(type_id, kind, name, size=size_or_type, signed=flag, enumerators=pairs)
            case Kind.ARRAY:
                element, _index, length = struct.unpack("<III", tail)
                return Type(type_id, kind, name, target=element, length=length)
            case Kind.INT:
                return Type(type_id, kind, name, size=size_or_type, signed=bool(tail[3] & 1))
            case Kind.FLOAT:
                return Type(type_id, kind, name, size=size_or_type)
            case _:
                return Type(type_id, kind, name, target=size_or_type)
