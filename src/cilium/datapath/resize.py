"""Pinned maps whose size in the settings changed: the content moves into a map of the new size.

In: an object about to be loaded, the directory of pins. Out: `Resize` objects, which finish or undo what they began.
Only the number of entries may differ: `layouts` has put other layouts aside, and one that it left is a MapSpecMismatch.
Programs that are attached write to the old map until they are replaced: what they learn in between is lost, which for
connections means to be judged anew.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog

from cilium.datapath import nested
from cilium.datapath.errors import MapSpecMismatch, NoSuchEntry
from cilium.datapath.libbpf import syscall
from cilium.datapath.maps import Array, Map, MapWriteError, shape_of
from cilium.datapath.mapspec import MapSpec, MapType, Shape

log = structlog.get_logger("maps")
_MOVABLE = (
    MapType.HASH,
    MapType.ARRAY,
    MapType.LRU_HASH,
    MapType.LPM_TRIE,
    MapType.PERCPU_HASH,
    MapType.LRU_PERCPU_HASH,
    MapType.HASH_OF_MAPS,
)


@dataclass(frozen=True, slots=True)
class Resize:
    """One map on its way: unpinned, its old descriptor still open."""

    name: str
    path: Path
    old: int
    shape: Shape

    def finish(self, new: int) -> None:
        """Copy the elements into the new map; rings and per-CPU arrays start anew."""
        try:
            if self.shape.kind in _MOVABLE:
                log.info("map resized", map=self.name, entries=_copy(self.name, self.shape, self.old, new))
            else:
                log.info("map made anew with another size", map=self.name)
        finally:
            os.close(self.old)

    def undo(self) -> None:
        """Pin the old map again."""
        try:
            self.path.unlink(missing_ok=True)
            syscall.pin(self.old, str(self.path))
        finally:
            os.close(self.old)


def prepare(name: str, path: Path, wanted: Shape) -> Resize | None:
    """Unpin the map at `path` if only its size differs from `wanted`; None when it is right or not there.

    Raises MapSpecMismatch when more than the size differs.
    """
    try:
        fd = syscall.get(str(path))
    except NoSuchEntry:
        return None
    found = shape_of(fd)
    if found == wanted:
        os.close(fd)
        return None
    if found._replace(max_entries=wanted.max_entries) != wanted:
        os.close(fd)
        raise MapSpecMismatch(name, str(path), str(found), str(wanted))
    path.unlink()
    return Resize(name, path, fd, found)


def _copy(name: str, shape: Shape, old: int, new: int) -> int:
    """How many elements arrived: fewer than there were when the new map is too small for them."""
    kind = MapType(shape.kind)
    value = np.dtype("<u4") if kind is MapType.HASH_OF_MAPS else np.dtype(f"V{shape.value_size}")
    spec = MapSpec(name, kind, np.dtype(f"V{shape.key_size}"), value, shape.max_entries, shape.flags)
    with Map(os.dup(old), spec) as source, Map(os.dup(new), spec) as target:
        keys, values = source.dump()
        lost = (nested.insert if kind is MapType.HASH_OF_MAPS else _insert)(target, keys, values)
        if lost:
            log.warning("elements did not fit into the smaller map", map=name, lost=lost)
        return len(keys) - lost


def _insert(target: Map, keys: Array, values: Array) -> int:
    """How many did not fit."""
    try:
        target.update(keys, values)
    except MapWriteError as error:
        return len(error.failures)
    return 0
