"""Load the datapath's object files: constants set, maps shared through their pins, programs verified.

In: an object file, its load-time constants by name, where maps live. Out: `LoadedObject`. Maps that are already pinned
keep their content (also when they are to have another size: `resize`); those that are not there are created and pinned.
Attaching is for `links`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cilium.datapath.addresses import address_bytes
from cilium.datapath.closing import Closing
from cilium.datapath.errors import ObjectError
from cilium.datapath.libbpf.objects import BpfObject, Program
from cilium.datapath.mounts import ensure_bpf_directory
from cilium.datapath.paths import MAP_DIRECTORY
from cilium.datapath.resize import Resize, prepare

Constant = int | IPv4Address | IPv6Address | bytes


@dataclass(frozen=True, slots=True)
class LoadedObject(Closing):
    """Programs in the kernel. They live until `close`, and longer where a link or a pin holds them."""

    path: Path
    programs: dict[str, Program]
    maps: dict[str, int]
    """Descriptor by name; they belong to this object."""
    object: BpfObject

    def close(self) -> None:
        self.object.close()


def load(
    path: Path,
    *,
    constants: Mapping[str, Constant] | None = None,
    pin_dir: Path = MAP_DIRECTORY,
    max_entries: Mapping[str, int] | None = None,
    programs: Collection[str] | None = None,
) -> LoadedObject:
    """Load an object file.

    `constants`: `const volatile` variables by name; what is not named keeps the value it was compiled with.
    `max_entries`: sizes of maps by name, for those that are not as compiled; maps that the object lacks are ignored,
    so that one mapping serves all objects. `programs`: load only these.

    Raises ObjectError (no such file, variable or program; a value out of range), MapSpecMismatch, LoadError with the
    verifier's words, MissingPrivilege.
    """
    opened = BpfObject(path)
    try:
        if programs is not None:
            opened.select_programs(set(programs))
        set_constants(opened, constants or {})
        for name, entries in (max_entries or {}).items():
            if name in opened.maps:
                opened.set_max_entries(name, entries)
        loaded = _load_with_pins(opened, pin_dir)
    except BaseException:
        opened.close()
        raise
    return LoadedObject(path, loaded, {m.name: m.fd for m in opened.maps.values() if m.fd >= 0}, opened)


def _load_with_pins(opened: BpfObject, pin_dir: Path) -> dict[str, Program]:
    """Share the maps pinned in `pin_dir`, make those that are not there, move those whose size changed."""
    pinned = [each for each in opened.maps.values() if each.pinned]
    if pinned:
        ensure_bpf_directory(pin_dir)
    resizes: list[Resize] = []
    try:
        for each in pinned:
            if resize := prepare(each.name, pin_dir / each.name, each.shape):
                resizes.append(resize)
            opened.set_pin_path(each.name, pin_dir / each.name)
        loaded = opened.load()
    except BaseException:
        for resize in resizes:
            resize.undo()
        raise
    for resize in resizes:
        resize.finish(opened.maps[resize.name].fd)
    return loaded


def set_constants(opened: BpfObject, constants: Mapping[str, Constant]) -> None:
    """Write load-time constants into an object that is not loaded yet. Raises ObjectError."""
    data, variables = opened.read_only_data()
    for name, value in constants.items():
        variable = variables.get(name)
        if variable is None:
            known = ", ".join(sorted(variables)) or "none"
            raise ObjectError(f"{opened.path}: no constant {name} in it; it has: {known}")
        encoded = encode(f"{opened.path}: constant {name}", value, variable.size)
        data[variable.offset : variable.offset + variable.size] = encoded


def encode(subject: str, value: Constant, size: int) -> bytes:
    """The bytes of a constant: integers in the host's order (little-endian), addresses mapped. Raises ObjectError."""
    if isinstance(value, IPv4Address | IPv6Address):
        value = address_bytes(value)
    if isinstance(value, int):
        try:
            return value.to_bytes(size, "little", signed=value < 0)
        except OverflowError:
            raise ObjectError(f"{subject}: {value} does not fit into {size} bytes") from None
    if len(value) != size:
        raise ObjectError(f"{subject}: the value has {len(value)} bytes, the variable {size}")
    return value
