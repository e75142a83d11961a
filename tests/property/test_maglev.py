"""Maglev tables against the plain text of their contract, step by step (Hypothesis)."""

from __future__ import annotations

from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from cilium.features.services.maglev import Maglev


def plainly(size: int, seed: bytes, turns_of: dict[bytes, int]) -> list[bytes]:
    """Names by entry, as the module's own words have it."""
    names = sorted(turns_of)
    hashes = {}
    for name in names:
        digest = blake2b(name, digest_size=16, key=seed).digest()
        hashes[name] = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
    share = {name: size * turns_of[name] // sum(turns_of.values()) for name in names}
    left_over = size - sum(share.values())
    for name in sorted(names, key=lambda name: hashes[name][0] ^ hashes[name][1])[:left_over]:
        share[name] += 1
    table: dict[int, bytes] = {}
    time = 0
    while len(table) < size:
        for name in names:
            offset, skip = hashes[name][0] % size, hashes[name][1] % (size - 1) + 1
            for turn in range(turns_of[name]):
                entry = (offset + (time * turns_of[name] + turn) * skip) % size
                if share[name] and entry not in table:
                    table[entry] = name
                    share[name] -= 1
        time += 1
    return [table[entry] for entry in range(size)]


@given(
    size=st.sampled_from([2, 3, 13, 31, 127, 251]),
    seed=st.binary(max_size=12),
    turns_of=st.dictionaries(st.binary(max_size=4), st.integers(1, 7), min_size=1, max_size=40),
)
def test_as_the_contract_says(size: int, seed: bytes, turns_of: dict[bytes, int]) -> None:
    names = list(turns_of)
    table = Maglev(size=size, seed=seed).table(names, list(turns_of.values()))
    assert [names[index] for index in table] == plainly(size, seed, turns_of)
