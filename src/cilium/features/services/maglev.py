"""Maglev tables: which backend every hash leads to, computed alike on every node of the cluster.

In: who the backends are, how many turns each has, the size of the table (a prime), the seed. Out: for every entry the
index of a backend. After Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016),
3.4: two hashes of a backend's name, an offset and a skip, make a permutation of all entries, in whose order the backend
asks for them. What differs: all backends walk their permutations in step and leave when they have their share, while in
the paper each walks on until it has one more. Shares are equal to one entry in both; when a backend goes, half as many
entries of others move (ADR 0016).

A contract between nodes and versions: if hash, order or shares changed, nodes that differ would choose differently.
- Hashes: BLAKE2b (RFC 7693) with the seed for its key and 16 bytes of digest over the name, read as two little-endian
  64-bit numbers h1, h2; offset = h1 mod size, skip = h2 mod (size - 1) + 1.
- Shares: size * turns / all turns, rounded down; what is left goes one by one to backends with the lowest h1 xor h2.
- Time t = 0, 1, …: in the order of their names, backends that have not got their share ask for the entries
  (offset + (t * turns + k) * skip) mod size, k = 0 … turns - 1; who asks first has an entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indexes = NDArray[np.int32]
Positions = NDArray[np.signedinteger[Any]]
_NONE = -1


class Maglev:
    """`size`: a prime below 2**31. `seed`: up to 64 bytes, the same on every node."""

    def __init__(self, *, size: int, seed: bytes) -> None:
        self.size, self._seed = size, seed

    def table(self, names: Sequence[bytes], turns: Sequence[int]) -> Indexes:
        """For every entry an index into `names`, which are distinct, at least one, and in any order."""
        order = sorted(range(len(names)), key=names.__getitem__)
        weights = np.array([turns[place] for place in order], np.int64)
        filled = self._fill(self._hashes(names[place] for place in order), weights)
        return np.array(order, np.int32)[filled]

    def _hashes(self, names: Any) -> NDArray[np.uint64]:
        digests = b"".join(blake2b(name, digest_size=16, key=self._seed).digest() for name in names)
        return np.frombuffer(digests, "<u8").reshape(-1, 2)

    def _fill(self, hashes: NDArray[np.uint64], turns: NDArray[np.int64]) -> Indexes:
        size = self.size
        left = shares(size, turns, hashes[:, 0] ^ hashes[:, 1])
        # A walker is one of a backend's turns: it starts at the offset, as many skips later as it has predecessors.
        owners = np.repeat(np.arange(len(turns), dtype=np.int32), turns)
        turn = np.arange(len(owners)) - np.repeat(np.cumsum(turns) - turns, turns)
        skip = (hashes[:, 1] % np.uint64(size - 1)).astype(np.int64) + 1
        offset = (hashes[:, 0] % np.uint64(size)).astype(np.int64)
        starts, steps = (offset[owners] + turn * skip[owners]) % size, skip[owners] * turns[owners] % size
        table = np.full(size, _NONE, np.int32)
        free = size
        while free:
            asking = left[owners] > 0
            owners, starts, steps = owners[asking], starts[asking], steps[asking]
            # Of any length: what comes out is the same. About as many questions as there are entries is the fastest.
            length = max(1, size // len(owners))
            asked = walk(starts, steps, length, size)
            askers = np.tile(owners, length)
            if free < size:
                open_ = np.flatnonzero(table.take(asked) == _NONE)
                asked, askers = asked[open_], askers[open_]
            free -= settle(table, left, asked, askers)
            starts = (starts + steps * length) % size
        return table


def shares(size: int, turns: NDArray[np.int64], luck: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Entries for each backend, in proportion to its turns; those that are left over to the lowest of `luck`."""
    found: NDArray[np.int64] = size * turns // turns.sum()
    found[np.argsort(luck, kind="stable")[: size - found.sum()]] += 1
    return found


def walk(starts: NDArray[np.int64], steps: NDArray[np.int64], length: int, size: int) -> Positions:
    """Where all walkers are at each of `length` times, one time after the other."""
    kind = np.int32 if size * (length + 1) < 1 << 31 else np.int64  # the narrow one is faster by a third
    found: Positions = starts.astype(kind) + np.arange(length, dtype=kind)[:, None] * steps.astype(kind)
    found -= found // size * size  # the remainder, in a form that numpy computes eight at a time
    return found.reshape(length * len(starts))


def settle(table: Indexes, left: NDArray[np.int64], entries: Positions, askers: Indexes) -> int:
    """Writes who gets which of the free `entries`, asked for in this order; returns how many were given.

    Who gets more than it may is taken out from there on, and all is settled anew: that gives entries to others, never
    earlier ones to itself, so what was taken out stays out.
    """
    first = np.empty(len(table), np.int32)
    while True:
        order = np.arange(len(entries), dtype=np.int32)
        first[entries[::-1]] = order[::-1]  # of several at one place the last is written: the first who asked
        given = np.flatnonzero(first[entries] == order)
        got = askers[given]
        counts = np.bincount(got, minlength=len(left))
        over = counts > left
        if not over.any():
            table[entries[given]] = got
            left -= counts
            return len(given)
        stays = order <= last_allowed(given[over[got]], askers, left)[askers]
        entries, askers = entries[stays], askers[stays]


def last_allowed(given: Positions, askers: Indexes, left: NDArray[np.int64]) -> NDArray[np.int64]:
    """By backend: the place of the question with which it has its share. `given`: where the greedy ones got one."""
    owners = askers[given]
    order = np.argsort(owners, kind="stable")
    owners, given = owners[order], given[order]
    ordinal = np.arange(len(owners)) - np.searchsorted(owners, owners)
    last = np.full(len(left), len(askers))
    full = ordinal == left[owners] - 1
    last[owners[full]] = given[full]
    return last
