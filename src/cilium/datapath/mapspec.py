"""The shape of a map: its kind and what its keys and values look like to numpy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np


class MapType(IntEnum):
    """BPF_MAP_TYPE_* of the kinds in use."""

    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    RINGBUF = 27

    @property
    def per_cpu(self) -> bool:
        """A value per possible CPU."""
        return self in (MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH)

    @property
    def array(self) -> bool:
        """Every index exists from the start and cannot be deleted."""
        return self in (MapType.ARRAY, MapType.PERCPU_ARRAY)


@dataclass(frozen=True, slots=True)
class MapSpec:
    """What the programs expect of one map; `key` and `value` are None for a ring buffer."""

    name: str
    type: MapType
    key: np.dtype[Any] | None
    value: np.dtype[Any] | None
    max_entries: int
    flags: int = 0
