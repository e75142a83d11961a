"""Room is given once, rests after use, grows together, and says when there is none."""

from __future__ import annotations

import random

import pytest

from cilium.features.services.space import NoRoomError, Space


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(clock: Clock, size: int = 10, first: int = 0) -> Space:
    return Space("slots", size=size, first=first, remedy="raise it", clock=clock)


def test_lowest_first_and_none_below_the_first(clock: Clock) -> None:
    space = make(clock, first=1)
    assert [space.allocate(3), space.allocate(2), space.allocate()] == [1, 4, 6]


def test_what_is_given_back_rests(clock: Clock) -> None:
    space = make(clock)
    assert space.allocate(10) == 0
    space.free(2, 3)
    with pytest.raises(NoRoomError, match=r"slots has no room for 1 more of 10: raise it"):
        space.allocate()
    clock.now = 1.0
    assert space.allocate(3) == 2


def test_neighbours_grow_together(clock: Clock) -> None:
    space = make(clock)
    for _ in range(10):
        space.allocate()
    for start in (4, 6, 5, 3, 9):
        space.free(start)
    clock.now = 1.0
    assert space.allocate(4) == 3
    assert space.allocate() == 9


def test_what_is_taken_and_what_rests_is_not_given_again(clock: Clock) -> None:
    space = make(clock)
    assert space.allocate(4) == 0
    space.free(0, 4)
    space.take([(6, 2)])
    assert space.allocate(2) == 4
    assert space.allocate(2) == 8
    clock.now = 1.0
    assert space.allocate(4) == 0


def test_what_rests_and_is_taken_again_is_not_given(clock: Clock) -> None:
    """A write that failed half-way: what was to be given back is still in use."""
    space = make(clock)
    assert space.allocate(4) == 0
    space.free(0, 4)
    space.take([(2, 4)])
    clock.now = 1.0
    assert space.allocate(4) == 6
    with pytest.raises(NoRoomError):
        space.allocate(3)


def test_nothing_beyond_the_ends_is_given(clock: Clock) -> None:
    """Of a map that was larger, for one."""
    space = make(clock, first=1)
    space.take([(8, 4), (20, 3)])
    space.free(12, 5)
    space.free(0)
    clock.now = 1.0
    assert sorted(space.allocate() for _ in range(7)) == list(range(1, 8))
    with pytest.raises(NoRoomError):
        space.allocate()


def test_ranges_never_overlap(clock: Clock) -> None:
    chance, space, held = random.Random(7), make(clock, 200), dict[int, int]()
    for _ in range(2000):
        clock.now += 0.1
        if held and chance.random() < 0.5:
            start = chance.choice(list(held))
            space.free(start, held.pop(start))
            continue
        length = chance.randint(1, 12)
        try:
            start = space.allocate(length)
        except NoRoomError:
            continue
        assert all(start + length <= other or other + held[other] <= start for other in held)
        assert start + length <= 200
        held[start] = length
