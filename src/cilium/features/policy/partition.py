"""Groups identities by the set of rules that select them, without looking at them one by one.

In: bitmaps of identities, one per set of rules with the same peers. Out: groups.

Every bitmap gets a random 64-bit number and adds it to each of its identities: identities with equal sums are selected
by the same rules. The numbers are new in every run, so nobody can aim at two sets with one sum; by chance that
happens once in 10^11 runs with 10,000 identities.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from pyroaring import BitMap

FEW = 200
"""Up to here a Python set is faster than sorting."""


def partition(bitmaps: Sequence[BitMap]) -> list[tuple[list[int], list[int]]]:
    """Groups (indexes of the bitmaps that contain it, identities); identities in no bitmap are in no group."""
    if not bitmaps:
        return []
    if len(bitmaps) == 1:
        return [([0], bitmaps[0].to_array().tolist())] if bitmaps[0] else []
    identities = _array(BitMap.union(*bitmaps))
    keys = np.frombuffer(os.urandom(8 * len(bitmaps)), dtype=np.uint64)
    sums = np.zeros(len(identities), dtype=np.uint64)
    positions = [np.searchsorted(identities, _array(bitmap)) for bitmap in bitmaps]
    for key, where in zip(keys, positions, strict=True):
        sums[where] += key
    values, group_of = np.unique(sums, return_inverse=True)
    selecting: list[list[int]] = [[] for _ in values]
    for index, where in enumerate(positions):
        for group in np.unique(group_of[where]).tolist() if len(where) > FEW else set(group_of[where].tolist()):
            selecting[group].append(index)
    order = np.argsort(group_of, kind="stable")
    borders = np.searchsorted(group_of[order], np.arange(1, len(values)))
    members = [part.tolist() for part in np.split(identities[order], borders)]
    return list(zip(selecting, members, strict=True))


def _array(bitmap: BitMap) -> np.ndarray:
    return np.frombuffer(bitmap.to_array(), dtype=np.uint32)
