"""Pinned maps whose layout another version of the agent made: new maps take their places before anything is loaded.

In: the directory of pins, what this version's programs expect (`MAPS`). Out: the names of the maps that start empty,
and a mark beside the pins, which survives the process, while maps that the agent writes are not filled again.
What is compared is the shape and, field by field, the BTF that the kernel keeps with every map: a struct that changed
without changing its size is seen. Names of fields count: who changes what a field means without changing its type
renames it. Only a size in the settings that changed is no layout: `resize` moves the content.

Programs that are attached keep the old maps until they are replaced; app/refill.py waits with that until the maps that
the agent writes are filled again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from cilium.datapath.errors import NoSuchEntry
from cilium.datapath.generated.maps import MAPS
from cilium.datapath.libbpf import syscall
from cilium.datapath.libbpf.btf import Btf, Kind
from cilium.datapath.maps import shape_of
from cilium.datapath.mapspec import MapSpec

log = structlog.get_logger("maps")

POLICY_SET = frozenset(
    {
        "cilium_ipcache",
        "cilium_ipcache_cidr",
        "cilium_lxc",
        "cilium_netdev",
        "cilium_policy",
        "cilium_policy_class",
    }
)
SERVICE_SET = frozenset(
    {
        "cilium_lb_affinity_match",
        "cilium_lb_backends",
        "cilium_lb_maglev",
        "cilium_lb_services",
        "cilium_lb_skip",
        "cilium_lb_slots",
        "cilium_lb_source_ranges",
    }
)
WRITTEN = POLICY_SET | SERVICE_SET
"""Maps that hold only what the agent writes again."""
_TOGETHER: tuple[tuple[frozenset[str], frozenset[str]], ...] = (
    # Their rows name each other by numbers, which an agent that finds one of them empty gives anew: old programs must
    # not see new numbers in some of them.
    (POLICY_SET, POLICY_SET),
    # Clients' backends are such numbers, too.
    (SERVICE_SET, SERVICE_SET | {"cilium_lb_affinity"}),
    # Epochs begin at 1 again: an old entry must not pass for one that was judged since.
    (frozenset({"cilium_runtime"}), frozenset({"cilium_ct"})),
)
_LOSSES = {
    "cilium_ct": "connections are judged anew, and a reply may be dropped until the client speaks again",
    "cilium_snat": "masqueraded connections and those through services break",
    "cilium_nat_clients": "replies of services pass untranslated until the client's next packet",
    "cilium_frags": "fragments on their way are dropped",
    "cilium_lb_affinity": "clients may get another backend",
    "cilium_lb_reverse": "UDP sockets see their backend's address until they send again",
    "cilium_lb_sockets": "sockets of backends that go may not be ended",
    "cilium_runtime": "every connection is judged anew",
    "cilium_metrics": "counters begin at 0",
    "cilium_policy_counters": "counters of rules begin at 0",
    "cilium_events_lost": "counters begin at 0",
    "cilium_sampler": "flows are reported once more than needed",
    "cilium_events": "events that nobody has read yet",
}
MARK = "cilium_refilling"
"""A directory, all that this file system has beside pins: it goes when they go, at the next boot."""
_BIG_ENDIAN = {"__be16": ">u2", "__be32": ">u4", "__be64": ">u8"}


@dataclass(frozen=True, slots=True)
class _Aside:
    """An old map: no longer pinned, its descriptor open in case it must come back."""

    path: Path
    fd: int

    def restore(self) -> None:
        self.path.unlink(missing_ok=True)
        syscall.pin(self.fd, str(self.path))


@contextmanager
def changed_layouts_aside(directory: Path, specs: Mapping[str, MapSpec] = MAPS) -> Iterator[frozenset[str]]:
    """Within it, objects are loaded: maps of another layout are out of their way. Yields the names of maps that start
    empty, though they were there. After an error in it the old maps are pinned again.
    """
    aside: dict[str, _Aside] = {}
    marked = refilling(directory)
    try:
        try:
            changed = _changed(directory, specs)
            names = _with_companions(changed) & specs.keys()
            if names & WRITTEN:
                (directory / MARK).mkdir(exist_ok=True)  # first: who dies here leaves a mark too much
            for name in sorted(names):
                if each := _put_aside(directory / name):
                    aside[name] = each
            yield frozenset(aside)
        except BaseException:
            for each in aside.values():
                each.restore()
            if not marked:
                refilled(directory)
            raise
        for name in aside:
            reason = changed.get(name, "it goes with others whose layout changed")
            log.warning("map made anew, empty", map=name, reason=reason, lost=loss(name))
    finally:
        for each in aside.values():
            os.close(each.fd)


def refilling(directory: Path) -> bool:
    """Whether maps that the agent writes were replaced and are not known to be full."""
    return (directory / MARK).is_dir()


def refilled(directory: Path) -> None:
    """They are full: programs may be replaced, also by the next agent."""
    with suppress(FileNotFoundError):
        (directory / MARK).rmdir()


def loss(name: str) -> str:
    """What it means that this map starts empty, for the log."""
    return "nothing, the agent fills it again" if name in WRITTEN else _LOSSES.get(name, "what was in it")


def _put_aside(path: Path) -> _Aside | None:
    try:
        fd = syscall.get(str(path))
    except NoSuchEntry:
        return None
    path.unlink()
    return _Aside(path, fd)


def _with_companions(changed: Mapping[str, str]) -> set[str]:
    found = set(changed)
    for names, companions in _TOGETHER:
        if names & changed.keys():
            found |= companions
    return found


def _changed(directory: Path, specs: Mapping[str, MapSpec]) -> dict[str, str]:
    """What differs, by name of the map."""
    found: dict[str, str] = {}
    types: dict[int, Btf] = {}  # maps of one object share their BTF
    for name, spec in specs.items():
        try:
            fd = syscall.get(str(directory / name))
        except NoSuchEntry:
            continue
        try:
            if reason := _difference(fd, spec, types):
                found[name] = reason
        finally:
            os.close(fd)
    return found


def _difference(fd: int, spec: MapSpec, types: dict[int, Btf]) -> str:
    """In words; empty when there is none. A map without BTF (a ring, a map of maps) is known by its shape alone."""
    found = shape_of(fd)
    wanted = spec.shape._replace(max_entries=found.max_entries)
    if found != wanted:
        return f"it was ({found}), the programs need ({wanted})"
    info = syscall.info(fd, "map_info")
    if not info.btf_id:
        return ""
    if info.btf_id not in types:
        types[info.btf_id] = Btf(syscall.btf_bytes(info.btf_id))
    btf = types[info.btf_id]
    for what, type_id, dtype in (
        ("key", info.btf_key_type_id, spec.key),
        ("value", info.btf_value_type_id, spec.value),
    ):
        if type_id and dtype is not None:
            before, now = describe_type(btf, type_id), describe(dtype)
            if before != now:
                return f"its {what} was {before}, the programs need {now}"
    return ""


def describe(dtype: np.dtype[Any]) -> str:
    """A layout in words: names, places and types of the fields."""
    if dtype.subdtype is not None:
        element, shape = dtype.subdtype
        return f"{describe(element)}[{shape[0]}]"
    if dtype.fields is None:
        return dtype.str.lstrip("|")
    fields = (f"{name}@{place[1]}:{describe(place[0])}" for name, place in dtype.fields.items())
    return f"{{{' '.join(fields)}}}/{dtype.itemsize}"


def describe_type(btf: Btf, type_id: int) -> str:
    """The same of a BTF type, as tools/generate_views.py sees it: of a union, the first member."""
    for name in btf.typedef_names(type_id):
        if name in _BIG_ENDIAN:
            return _BIG_ENDIAN[name]
    found = btf.resolve(type_id)
    match found.kind:
        case Kind.INT | Kind.ENUM:
            code = "i" if found.kind is Kind.INT and found.signed else "u"
            return f"{code}1" if found.size == 1 else f"<{code}{found.size}"
        case Kind.ARRAY:
            return f"{describe_type(btf, found.target)}[{found.length}]"
        case Kind.UNION if found.members:
            return describe_type(btf, found.members[0].type_id)
        case Kind.STRUCT:
            fields = (f"{m.name}@{m.offset // 8}:{describe_type(btf, m.type_id)}" for m in found.members)
            return f"{{{' '.join(fields)}}}/{found.size}"
        case _:
            return found.kind.name.lower()
