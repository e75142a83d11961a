"""Make `src/kubelab/apiserver/schemas/protobuf.json` from a kubectl binary.

Clients written in Go send built-in objects in protobuf. Which field has which number is part of the API, and stands
in the
struct tags that every Go program with these types carries in its run-time type information. This tool reads them there.
Comes in: an ELF kubectl (static, 64 bit, little endian). Goes out: message -> field number -> JSON name and type, for
the kinds that the lab serves.

    python tools/read_protobuf_numbers.py <kubectl> <builtins.json> <output.json>

Source: the layout of Go's type information, package internal/abi.
"""

import json
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ARRAY, INTERFACE, MAP, POINTER, SLICE, STRING, STRUCT = 17, 20, 21, 22, 23, 24, 25
TYPE_SIZE = 48
NAMED, EXTRA_STAR, UNCOMMON = 4, 2, 1
SCALARS = {1: "bool", **dict.fromkeys(range(2, 13), "int"), 13: "float", 14: "float", STRING: "string"}
_TAG = re.compile(r'(\w+):"([^"]*)"')


class Binary:
    """The loaded image of a Go program."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        self._sections = dict(self._read_sections())
        self.types = self._sections[".rodata"][0]

    def _read_sections(self) -> Iterator[tuple[str, tuple[int, int, int]]]:
        offset = struct.unpack_from("<Q", self._data, 40)[0]
        size, count, names = struct.unpack_from("<HHH", self._data, 58)
        headers = [struct.unpack_from("<IIQQQQ", self._data, offset + i * size) for i in range(count)]
        for header in headers:
            start = headers[names][4] + header[0]
            yield self._data[start : self._data.index(b"\0", start)].decode(), (header[3], header[4], header[5])

    def offset(self, address: int) -> int:
        for start, place, size in self._sections.values():
            if start and start <= address < start + size:
                return place + address - start
        raise ValueError(f"no section holds {address:#x}")

    def unpack(self, form: str, address: int) -> tuple[Any, ...]:
        return struct.unpack_from("<" + form, self._data, self.offset(address))

    def name(self, address: int) -> tuple[str, str]:
        """Text and tag of an abi.Name."""
        place = self.offset(address)
        flags, place = self._data[place], place + 1
        text, place = self._text(place)
        tag = self._text(place)[0] if flags & 2 else ""
        return text, tag

    def _text(self, place: int) -> tuple[str, int]:
        length, shift = 0, 0
        while True:
            byte, place = self._data[place], place + 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        return self._data[place : place + length].decode(errors="replace"), place + length

    def typelinks(self) -> Iterator[int]:
        _, place, size = self._sections[".typelink"]
        for (offset,) in struct.iter_unpack("<i", self._data[place : place + size]):
            yield self.types + offset


class Reader:
    def __init__(self, binary: Binary) -> None:
        self._binary = binary
        self.structs: dict[str, dict[str, list[Any]]] = {}
        self._seen: set[int] = set()

    def kind(self, address: int) -> int:
        return int(self._binary.unpack("B", address + 23)[0]) & 31

    def full_name(self, address: int) -> str:
        """`k8s.io/api/core/v1.Pod`; "" for types without a name."""
        flags = self._binary.unpack("B", address + 20)[0]
        if not flags & NAMED:
            return ""
        text = self._binary.name(self._binary.types + self._binary.unpack("i", address + 40)[0])[0]
        text = text.removeprefix("*") if flags & EXTRA_STAR else text
        package = ""
        if flags & UNCOMMON:
            package = self._binary.name(self._binary.types + self._binary.unpack("i", self._uncommon(address))[0])[0]
        return f"{package}.{text.rpartition('.')[2]}"

    def _uncommon(self, address: int) -> int:
        sizes = {POINTER: 8, SLICE: 8, ARRAY: 24, STRUCT: 32, INTERFACE: 32, MAP: 56, 18: 16, 19: 8}
        return address + TYPE_SIZE + sizes.get(self.kind(address), 0)

    def walk(self, address: int) -> None:
        """Read every struct that can be reached from a type."""
        waiting = [address]
        while waiting:
            current = waiting.pop()
            if current in self._seen:
                continue
            self._seen.add(current)
            kind = self.kind(current)
            if kind in (POINTER, SLICE, ARRAY):
                waiting.append(self._binary.unpack("Q", current + TYPE_SIZE)[0])
            elif kind == MAP:
                waiting.extend(self._binary.unpack("QQ", current + TYPE_SIZE))
            elif kind == STRUCT:
                waiting.extend(self._read_struct(current))

    def _read_struct(self, address: int) -> list[int]:
        place, count = self._binary.unpack("QQ", address + TYPE_SIZE + 8)
        fields: dict[str, list[Any]] = {}
        found = []
        for index in range(count):
            name, kind, _ = self._binary.unpack("QQQ", place + 24 * index)
            found.append(kind)
            tags = dict(_TAG.findall(self._binary.name(name)[1]))
            number = tags.get("protobuf", "").split(",")
            if len(number) > 1 and number[1].isdigit():
                json_name = tags.get("json", "").split(",")[0]
                described = self._describe(kind)
                # A pointer that is sent holds a value; what is no pointer is sent even when it is empty.
                star = "*" if self.kind(kind) == POINTER else ""
                fields[number[1]] = [json_name, star + described[0], *described[1:]]
        full = self.full_name(address)
        if fields and full:
            self.structs[full] = fields
        return found

    def _describe(self, address: int) -> list[str]:
        """[type] or [type, message]: bool int float string bytes message, list:..., map:..."""
        kind = self.kind(address)
        if kind == POINTER:
            return self._describe(self._binary.unpack("Q", address + TYPE_SIZE)[0])
        if kind == SLICE:
            element = self._binary.unpack("Q", address + TYPE_SIZE)[0]
            if self.kind(element) == 8:
                return ["bytes"]
            if self.full_name(address):
                # A named list is a message of its own, with its elements in field 1 (rbac and certificates ExtraValue).
                return ["items", *self._describe(element)[1:]]
            inner = self._describe(element)
            return [f"list:{inner[0]}", *inner[1:]]
        if kind == MAP:
            inner = self._describe(self._binary.unpack("Q", address + TYPE_SIZE + 8)[0])
            return [f"map:{inner[0]}", *inner[1:]]
        if kind == STRUCT:
            return ["message", self.full_name(address)]
        return [SCALARS.get(kind, "string")]


def reachable(structs: dict[str, Any], roots: list[str]) -> dict[str, Any]:
    waiting, found = list(roots), {}
    while waiting:
        name = waiting.pop()
        if name in structs and name not in found:
            found[name] = structs[name]
            waiting.extend(field[2] for field in structs[name].values() if len(field) > 2)
    return found


def main(kubectl: Path, builtins: Path, target: Path) -> None:
    binary = Binary(kubectl)
    reader = Reader(binary)
    for address in binary.typelinks():
        reader.walk(address)
    kinds: dict[str, str] = {}
    for name, schema in json.loads(builtins.read_text()).items():
        for gvk in schema.get("x-kubernetes-group-version-kind", []):
            package = name.replace("io.k8s.", "k8s.io/", 1)
            package = re.sub(r"^k8s\.io/(api|apimachinery|apiextensions-apiserver)\.", r"k8s.io/\1/", package)
            path = package.replace(".", "/").replace("k8s/io", "k8s.io")
            full = ".".join(path.rsplit("/", 1))
            group = gvk["group"] + "/" if gvk["group"] else ""
            if full in reader.structs:
                kinds[f"{group}{gvk['version']} {gvk['kind']}"] = full
    messages = reachable(reader.structs, sorted(set(kinds.values())))
    document = {"kinds": dict(sorted(kinds.items())), "messages": dict(sorted(messages.items()))}
    target.write_text(json.dumps(document, separators=(",", ":")) + "\n")
    print(f"{len(kinds)} kinds, {len(messages)} messages, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
