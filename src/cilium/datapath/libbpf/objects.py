"""An ELF object file in libbpf's hands, from opening over configuring to the programs in the kernel.

In: a path. Out: `BpfObject`: its maps and programs, its read-only data by variable, `load()`. Policy (where maps are
pinned, what the constants are called) is the loader's.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cilium.datapath.closing import Closing
from cilium.datapath.errors import LoadError, MissingPrivilege, ObjectError
from cilium.datapath.libbpf import syscall
from cilium.datapath.libbpf.btf import Btf, Member
from cilium.datapath.libbpf.library import captured_log, ffi, library, text
from cilium.datapath.mapspec import Shape

_VERIFIER_LOG = 4 << 20
_TAIL_LINES = 40


@dataclass(frozen=True, slots=True)
class ObjectMap:
    """A map that the object declares. `fd` is -1 before loading."""

    handle: Any
    name: str
    shape: Shape
    pinned: bool
    """It asks to be pinned by name."""
    internal: bool
    """One of libbpf's own: .rodata, .bss, …"""

    @property
    def fd(self) -> int:
        return int(library().bpf_map__fd(self.handle))


@dataclass(frozen=True, slots=True)
class Program:
    """A loaded program; the descriptor belongs to its object."""

    name: str
    section: str
    fd: int

    @property
    def id(self) -> int:
        """The kernel's id, by which links name their program."""
        return int(syscall.info(self.fd, "prog_info").id)


class BpfObject(Closing):
    """Raises ObjectError when the file cannot be opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = ffi.new("char[]", _VERIFIER_LOG)
        options = ffi.new("struct bpf_object_open_opts *")
        options.sz = ffi.sizeof("struct bpf_object_open_opts")
        options.kernel_log_buf, options.kernel_log_size = self._log, _VERIFIER_LOG
        if not path.is_file():
            raise ObjectError(f"{path}: no such object file; compile the datapath with `make bpf`")
        with captured_log() as lines:
            handle = library().bpf_object__open_file(str(path).encode(), options)
        if handle == ffi.NULL:
            raise ObjectError(f"{path}: no BPF object that can be read: {_tail(lines)}")
        self._handle = handle

    @cached_property
    def maps(self) -> dict[str, ObjectMap]:
        """By name, in the order of the file."""
        lib, found, handle = library(), {}, ffi.NULL
        while (handle := lib.bpf_object__next_map(self._handle, handle)) != ffi.NULL:
            name = text(lib.bpf_map__name(handle))
            found[name] = ObjectMap(
                handle,
                name,
                Shape(
                    kind=lib.bpf_map__type(handle),
                    key_size=lib.bpf_map__key_size(handle),
                    value_size=lib.bpf_map__value_size(handle),
                    max_entries=lib.bpf_map__max_entries(handle),
                    flags=lib.bpf_map__map_flags(handle),
                ),
                lib.bpf_map__pin_path(handle) != ffi.NULL,
                lib.bpf_map__is_internal(handle),
            )
        return found

    @cached_property
    def program_names(self) -> dict[str, str]:
        """Section by name of each program."""
        lib = library()
        return {text(lib.bpf_program__name(h)): text(lib.bpf_program__section_name(h)) for h in self._programs()}

    @cached_property
    def btf(self) -> Btf:
        """The object's types. Raises ObjectError when it has none."""
        handle = library().bpf_object__btf(self._handle)
        if handle == ffi.NULL:
            raise ObjectError(f"{self.path}: it carries no BTF; compile it with -g")
        return raw_btf(handle)

    def read_only_data(self) -> tuple[Any, dict[str, Member]]:
        """The bytes of .rodata, writable until `load`, and its variables by name."""
        for each in self.maps.values():
            if each.internal and each.name.endswith(".rodata"):
                size = ffi.new("size_t *")
                data = library().bpf_map__initial_value(each.handle, size)
                return ffi.buffer(data, size[0]), self.btf.variables(".rodata")
        return bytearray(), {}

    def set_pin_path(self, name: str, path: Path) -> None:
        library().bpf_map__set_pin_path(self.maps[name].handle, str(path).encode())

    def set_max_entries(self, name: str, entries: int) -> None:
        if library().bpf_map__set_max_entries(self.maps[name].handle, entries) < 0:
            raise ObjectError(f"{self.path}: map {name} cannot have {entries} entries")
        del self.maps  # shapes are read anew

    def select_programs(self, names: set[str]) -> None:
        """Load only these. Raises ObjectError when one is not in the object."""
        if unknown := names - self.program_names.keys():
            have = ", ".join(self.program_names)
            raise ObjectError(f"{self.path}: no program {', '.join(sorted(unknown))} in it; it has {have}")
        for handle in self._programs():
            library().bpf_program__set_autoload(handle, text(library().bpf_program__name(handle)) in names)

    def load(self) -> dict[str, Program]:
        """Create maps, verify and load programs. Raises LoadError, MissingPrivilege."""
        lib = library()
        with captured_log() as lines:
            result = lib.bpf_object__load(self._handle)
        if result in (-errno.EPERM, -errno.EACCES) and os.geteuid() != 0:
            raise MissingPrivilege(f"load {self.path}: the agent needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")
        if result < 0:
            verifier = ffi.string(self._log).decode(errors="replace").splitlines()
            raise LoadError(str(self.path), os.strerror(-result), _tail([*lines, *verifier]))
        self._log = None
        programs = (
            Program(text(lib.bpf_program__name(h)), text(lib.bpf_program__section_name(h)), lib.bpf_program__fd(h))
            for h in self._programs()
        )
        return {program.name: program for program in programs if program.fd >= 0}

    def close(self) -> None:
        """Give up programs and maps; what is pinned or attached stays in the kernel."""
        if self._handle != ffi.NULL:
            library().bpf_object__close(self._handle)
            self._handle = ffi.NULL

    def _programs(self) -> list[Any]:
        handles, handle = [], ffi.NULL
        while (handle := library().bpf_object__next_program(self._handle, handle)) != ffi.NULL:
            handles.append(handle)
        return handles


def raw_btf(handle: Any) -> Btf:
    """Read what libbpf holds as `struct btf *`."""
    size = ffi.new("__u32 *")
    raw = library().btf__raw_data(handle, size)
    return Btf(bytes(ffi.buffer(raw, size[0])))


def parse_btf(path: Path) -> Btf:
    """The BTF of an object file, or raw BTF such as /sys/kernel/btf/vmlinux. Raises ObjectError."""
    with captured_log() as lines:
        handle = library().btf__parse(str(path).encode(), ffi.NULL)
    if handle == ffi.NULL:
        raise ObjectError(f"{path}: no BTF in it: {_tail(lines) or os.strerror(ffi.errno)}")
    try:
        return raw_btf(handle)
    finally:
        library().btf__free(handle)


def _tail(lines: list[str]) -> str:
    return "\n".join(line for line in lines[-_TAIL_LINES:] if line)
