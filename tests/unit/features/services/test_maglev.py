"""Tables: shares, what moves when a backend goes, and the contract between nodes."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest

from cilium.features.services.maglev import Maglev

SEED = b"of a cluster"
DIGEST = "1c1f9b6827f50a2c77c71f7dbbf0088412fa75097e8befd9f1fccda7174d2c33"


def names(count: int, salt: int = 0) -> list[bytes]:
    return [bytes([10, salt, number >> 8, number & 255, 80, 6]) for number in range(count)]


def chosen(size: int, backends: list[bytes], turns: list[int] | None = None, seed: bytes = SEED) -> np.ndarray:
    """Names by entry."""
    table = Maglev(size=size, seed=seed).table(backends, turns or [1] * len(backends))
    assert len(table) == size
    return np.array(backends)[table]


def test_a_contract_between_nodes_and_versions() -> None:
    """Nodes of different versions must choose alike: this digest never changes."""
    table = Maglev(size=251, seed=SEED).table(names(7), [1, 1, 1, 2, 3, 1, 1])
    assert sha256(table.astype("<u4").tobytes()).hexdigest() == DIGEST


def test_the_order_in_which_backends_are_known_does_not_matter() -> None:
    turns = list(range(1, 11))
    forwards = chosen(1021, names(10), turns)
    assert (forwards == chosen(1021, names(10)[::-1], turns[::-1])).all()


def test_another_seed_is_another_table() -> None:
    same = chosen(1021, names(10)) == chosen(1021, names(10), seed=b"of another")
    assert 0.02 < same.mean() < 0.3


@pytest.mark.parametrize(
    ("size", "count"), [(251, 3), (251, 100), (16381, 1), (16381, 2), (16381, 100), (65521, 650), (131071, 2)]
)
def test_everybody_gets_the_same_to_one_entry(size: int, count: int) -> None:
    table = Maglev(size=size, seed=SEED).table(names(count), [1] * count)
    counts = np.bincount(table, minlength=count)
    assert counts.sum() == size
    assert {counts.min(), counts.max()} <= {size // count, -(-size // count)}


def test_weights_are_shares() -> None:
    turns = [1, 2, 3, 10, 1]
    counts = np.bincount(Maglev(size=16381, seed=SEED).table(names(5), turns))
    assert (abs(counts - 16381 * np.array(turns) / 17) < 1).all()


def test_more_backends_than_entries() -> None:
    table = Maglev(size=251, seed=SEED).table(names(300), [1] * 300)
    assert len(set(table.tolist())) == 251


@pytest.mark.parametrize("salt", range(4))
@pytest.mark.parametrize(("count", "turns"), [(100, (1,)), (160, (1,)), (10, (1,)), (60, (1, 1, 2, 4))])
def test_when_one_goes_hardly_anything_else_moves(count: int, turns: tuple[int, ...], salt: int) -> None:
    """Beyond its own entries, which must move: at most one of a hundred, as long as there are a hundred per backend."""
    backends, weights = names(count, salt), [turns[number % len(turns)] for number in range(count)]
    gone = 37 * (salt + 1) % count
    before = chosen(16381, backends, weights)
    after = chosen(16381, backends[:gone] + backends[gone + 1 :], weights[:gone] + weights[gone + 1 :])
    own = before == backends[gone]
    assert (before[~own] != after[~own]).sum() <= 16381 / 100


def test_a_change_of_weight_moves_little() -> None:
    before, after = chosen(16381, names(50), [2] * 50), chosen(16381, names(50), [1, *([2] * 49)])
    unavoidable = (before == names(50)[0]).sum() - (after == names(50)[0]).sum()
    assert (before != after).sum() - unavoidable <= 16381 / 100
