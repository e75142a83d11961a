"""What a map is: its shape to the kernel, and what its keys and values look like to numpy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np


class MapType(IntEnum):
    """BPF_MAP_TYPE_* of the kinds in use."""

    HASH = 1
    ARRAY = 2
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    HASH_OF_MAPS = 13
    RINGBUF = 27

    @property
    def per_cpu(self) -> bool:
        """A value per possible CPU."""
        return self in (MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH)

    @property
    def array(self) -> bool:
        """Every index exists from the start and cannot be deleted."""
        return self in (MapType.ARRAY, MapType.PERCPU_ARRAY)


class Shape(NamedTuple):
    """What the kernel knows of a map; sizes in bytes, `kind` a BPF_MAP_TYPE_*."""

    kind: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int

    def __str__(self) -> str:
        kind = MapType(self.kind).name if self.kind in list(MapType) else f"kind {self.kind}"
        sizes = f"key {self.key_size} bytes, value {self.value_size} bytes"
        return f"{kind}, {sizes}, {self.max_entries} entries, flags {self.flags:#x}"

    @property
    def layout(self) -> tuple[int, int, int]:
        """What elements are like; a map with another one cannot be read."""
        return self.kind, self.key_size, self.value_size


@dataclass(frozen=True, slots=True)
class MapSpec:
    """What the programs expect of one map; `key` and `value` are None for a ring buffer. The values of a map of maps
    are descriptors when they are written, and the kernel's numbers of maps when they are read.
    """

    name: str
    type: MapType
    key: np.dtype[Any] | None
    value: np.dtype[Any] | None
    max_entries: int
    flags: int = 0
    inner: MapSpec | None = None
    """Of a map of maps: what the maps in it are like."""

    @property
    def shape(self) -> Shape:
        key, value = (0 if part is None else part.itemsize for part in (self.key, self.value))
        return Shape(int(self.type), key, value, self.max_entries, self.flags)
