"""bpf(2) on descriptors: maps one by one and in batches, pins, links, test runs, information.

In: descriptors and addresses of buffers, which the caller sizes and keeps alive. Out: descriptors, counts, errors.
Source: include/uapi/linux/bpf.h. Every function raises MissingPrivilege, MapFull, NoSuchEntry or KernelError.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from cilium.datapath.errors import MissingFeature, raise_for
from cilium.datapath.libbpf.library import ffi, libc
from cilium.datapath.mapspec import Shape

ENOTSUPP = 524  # the kernel's own "not supported": what a map kind without batches answers
_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}


class Command(IntEnum):
    """BPF_*: the first argument of bpf(2)."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_TEST_RUN = 10
    MAP_GET_FD_BY_ID = 14
    OBJ_GET_INFO_BY_FD = 15
    PROG_QUERY = 16
    BTF_GET_FD_BY_ID = 19
    MAP_LOOKUP_BATCH = 24
    MAP_LOOKUP_AND_DELETE_BATCH = 25
    MAP_UPDATE_BATCH = 26
    MAP_DELETE_BATCH = 27
    LINK_CREATE = 28
    LINK_UPDATE = 29
    LINK_DETACH = 34


def _number() -> int:
    machine = os.uname().machine
    if machine not in _NUMBERS:
        raise MissingFeature(f"the number of bpf(2) on {machine} is not known here")
    return _NUMBERS[machine]


def call(command: Command, attr: Any) -> int:
    """bpf(2) itself; returns the result, or -errno."""
    size = ffi.cast("unsigned int", ffi.sizeof(ffi.typeof(attr).item))
    result = libc().syscall(ffi.cast("long", _number()), ffi.cast("int", command), attr, size)
    return int(result) if result >= 0 else -int(ffi.errno)


def checked(command: Command, attr: Any, action: str) -> int:
    """bpf(2); raises the typed error of a failure, whose text begins with `action`."""
    result = call(command, attr)
    if result < 0:
        raise_for(action, -result)
    return result


def address(buffer: Any) -> int:
    """Where a cffi buffer lives, as bpf(2) wants it."""
    return int(ffi.cast("uintptr_t", buffer))


def map_create(name: str, shape: Shape) -> int:
    """A map that lives as long as its descriptor, or what else holds it."""
    attr = ffi.new("struct attr_map_create *", (*shape, 0, 0, name.encode()[:15]))
    return checked(Command.MAP_CREATE, attr, f"create map {name}")


def map_by_number(number: int) -> int:
    """Open the map that the kernel knows by this id."""
    attr = ffi.new("struct attr_map_number *", (number,))
    return checked(Command.MAP_GET_FD_BY_ID, attr, f"open the map with id {number}")


def map_element(command: Command, fd: int, key: int, value: int = 0) -> int:
    """One element; `key` and `value` are addresses. Returns 0 or -errno: an absent key is no exception here."""
    attr = ffi.new("struct attr_map_element *", (fd, key, value))
    return call(command, attr)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """How far a batch came: `count` elements, then errno `error` (0: all)."""

    count: int
    error: int


def map_batch(
    command: Command, fd: int, *, keys: int, values: int = 0, count: int, after: int = 0, token: int = 0
) -> BatchResult:
    """One batch. For lookups `after` and `token` are the addresses of where to go on (0: the start) and of the next."""
    attr = ffi.new("struct attr_batch *")
    attr.map_fd, attr.keys, attr.values, attr.count = fd, keys, values, count
    attr.in_batch, attr.out_batch = after, token
    result = call(command, attr)
    if result >= 0:
        return BatchResult(int(attr.count), 0)
    # A request refused as a whole leaves the count as it was; ENOENT ends a lookup, perhaps with a full buffer.
    progressed = result == -errno.ENOENT or attr.count < count
    return BatchResult(int(attr.count) if progressed else 0, -result)


def pin(fd: int, path: str) -> None:
    name = ffi.new("char[]", path.encode())
    attr = ffi.new("struct attr_object *", (address(name), fd, 0))
    checked(Command.OBJ_PIN, attr, f"pin {path}")


def get(path: str) -> int:
    """Open what is pinned at `path`."""
    name = ffi.new("char[]", path.encode())
    attr = ffi.new("struct attr_object *", (address(name), 0, 0))
    return checked(Command.OBJ_GET, attr, f"open {path}")


def info(fd: int, kind: str) -> Any:
    """`kind`: map_info, prog_info or link_info; fields that the kernel does not know stay 0."""
    found = ffi.new(f"struct {kind} *")
    attr = ffi.new("struct attr_info *", (fd, ffi.sizeof(f"struct {kind}"), address(found)))
    checked(Command.OBJ_GET_INFO_BY_FD, attr, f"{kind} of descriptor {fd}")
    return found


def btf_bytes(number: int) -> bytes:
    """The raw BTF that the kernel knows by this id."""
    attr = ffi.new("struct attr_map_number *", (number,))
    fd = checked(Command.BTF_GET_FD_BY_ID, attr, f"open the BTF with id {number}")
    try:
        size = int(info(fd, "btf_info").btf_size)
        raw, found = ffi.new("char[]", size), ffi.new("struct btf_info *")
        found.btf, found.btf_size = address(raw), size
        attr = ffi.new("struct attr_info *", (fd, ffi.sizeof("struct btf_info"), address(found)))
        checked(Command.OBJ_GET_INFO_BY_FD, attr, f"read the BTF with id {number}")
        return bytes(ffi.buffer(raw))
    finally:
        os.close(fd)


def link_create(prog_fd: int, target: int, attach_type: int, flags: int = 0) -> int:
    """`target`: an ifindex, or the descriptor of a cgroup. `flags`: of XDP, how it is to run."""
    attr = ffi.new("struct attr_link_create *", (prog_fd, target, attach_type, flags))
    result = call(Command.LINK_CREATE, attr)
    return result if result >= 0 else raise_for(f"attach a program to {target} (type {attach_type})", -result)


def link_update(link_fd: int, prog_fd: int) -> None:
    """Swap the program between two packets."""
    attr = ffi.new("struct attr_link_update *", (link_fd, prog_fd))
    checked(Command.LINK_UPDATE, attr, "update a link's program")


def link_detach(link_fd: int) -> None:
    attr = ffi.new("struct attr_link_detach *", (link_fd,))
    checked(Command.LINK_DETACH, attr, "detach a link")


def query_supported(target: int, attach_type: int) -> bool:
    """Whether the kernel knows this attach type on this target. Raises MissingPrivilege when it may not say."""
    attr = ffi.new("struct attr_query *", (target, attach_type))
    result = call(Command.PROG_QUERY, attr)
    if result in (-errno.EPERM, -errno.EACCES):
        raise_for("query attached programs", -result)
    return result >= 0


def test_run(attr: Any) -> None:
    checked(Command.PROG_TEST_RUN, attr, "test run")
