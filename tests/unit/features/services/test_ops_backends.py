"""Weights as slots, backends that only keep their connections, and records of those that nobody names."""

from __future__ import annotations

from collections import Counter
from itertools import count

import numpy as np
import pytest
from unit.features.services.mapped import World, changed, end, outside, row

from cilium.datapath.generated import BACKEND
from cilium.features.services.maglev import Maglev
from cilium.features.services.ops import ServiceMaps
from cilium.features.services.records import reduced
from cilium.tables.services import Scope

WEB = row("10.96.0.1")


@pytest.fixture
def world() -> World:
    return World()


# ----------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize(
    ("weights", "turns"),
    [
        ([100, 100, 100], [1, 1, 1]),
        ([100, 50], [2, 1]),
        ([3, 0, 6], [1, 0, 2]),
        ([0, 0], [0, 0]),
        ([], []),
        ([100, 99], [64, 63]),
        ([65535, 1], [127, 1]),
    ],
)
def test_weights_in_small_numbers(weights: list[int], turns: list[int]) -> None:
    assert reduced(weights) == turns


def test_however_odd_the_weights_slots_are_bounded_and_everybody_has_one() -> None:
    turns = reduced([7919 * number + 1 for number in range(200)])
    assert sum(turns) <= 16 * 200 + 200
    assert min(turns) == 1
    assert turns == sorted(turns)


def test_a_weight_is_a_number_of_slots(world: World) -> None:
    world.update(changed(WEB, end("10.0.0.1", weight=100), end("10.0.0.2", weight=300), end("10.0.0.3", weight=0)))
    assert Counter(world.ends(WEB)) == {"10.0.0.1:8080": 1, "10.0.0.2:8080": 3}
    assert world.number_of("10.0.0.3"), "known for the connections that it has"
    world.update(changed(WEB, end("10.0.0.1", weight=7), end("10.0.0.2", weight=7), end("10.0.0.3", weight=0)))
    assert sorted(world.ends(WEB)) == ["10.0.0.1:8080", "10.0.0.2:8080"]


# ---------------------------------------------------------------------------------------------------------- draining


def test_who_terminates_gets_nothing_new_and_keeps_its_record(world: World) -> None:
    world.update(changed(WEB, end("10.0.0.1"), end("10.0.0.2")))
    number = world.number_of("10.0.0.2")
    world.update(changed(WEB, end("10.0.0.1"), end("10.0.0.2", terminating=True)))
    assert world.ends(WEB) == ["10.0.0.1:8080"]
    assert world.record(number) == "10.0.0.2:8080 terminating"
    world.update(changed(WEB, end("10.0.0.1")))
    assert world.record(number) == "none", "connections to it are chosen anew"


def test_nobody_else_is_there(world: World) -> None:
    world.update(changed(WEB, end("10.0.0.1", terminating=True)))
    assert world.ends(WEB) == ["10.0.0.1:8080 terminating"]
    world.update(changed(WEB, end("10.0.0.1", terminating=True), end("10.0.0.2", weight=0)))
    assert world.ends(WEB) == ["10.0.0.1:8080 terminating"]


def test_another_service_names_it(world: World) -> None:
    other = row("10.96.0.2", "10.0.0.1")
    world.update(changed(WEB, end("10.0.0.1")), other)
    number = world.number_of("10.0.0.1")
    world.update(WEB)
    assert world.record(number) == "10.0.0.1:8080"
    world.delete(other)
    assert world.record(number) == "none"


def test_it_moves_from_one_service_to_another_in_one_round(world: World) -> None:
    world.update(changed(WEB, end("10.0.0.1")), row("10.96.0.2"))
    number = world.number_of("10.0.0.1")
    world.update(WEB, row("10.96.0.2", "10.0.0.1"))
    assert world.number_of("10.0.0.1") == number, "its connections go on"


def test_it_moves_in_a_round_of_many() -> None:
    """Rows are written in parts: what the first lets go may be named by the last."""
    world = World({"cilium_lb_services": 2048})
    many = [row("10.96.0.1", port=port) for port in range(1, 1101)]
    world.update(row("10.96.0.1", "10.0.0.1", port=1), *many[1:])
    number = world.number_of("10.0.0.1")
    world.update(*many[:-1], row("10.96.0.1", "10.0.0.1", port=1100))
    assert world.number_of("10.0.0.1") == number


def test_an_id_that_was_taken_for_nothing_serves_another_row(world: World) -> None:
    """Of a row for which there is no room; the batch takes so long that its ids have rested."""
    world.operations = slow(world)
    big, small = row("10.96.0.1", *(f"10.0.1.{n}" for n in range(1, 20))), row("10.96.0.2", "10.0.0.2")
    assert list(world.update(big, small)) == [big.key]
    assert world.ends(small) == ["10.0.0.2:8080"]


def slow(world: World) -> ServiceMaps:
    """Every look at the clock takes two seconds."""
    seconds = count(step=2.0)
    return ServiceMaps(
        maps=world.maps,
        nested={"cilium_lb_maglev": world.tables},
        maglev=Maglev(size=251, seed=b""),
        clock=lambda: next(seconds),
    )


def test_zeroed_at_once_used_again_after_a_rest(world: World) -> None:
    world.update(changed(WEB, end("10.0.0.1")))
    number = world.number_of("10.0.0.1")
    world.update(changed(WEB, end("10.0.0.2")))
    assert world.record(number) == "none"
    assert world.written == ["update backends", "update slots", "update services", "update backends"]
    world.now = 0.5
    world.update(changed(WEB, end("10.0.0.3")))
    assert world.record(number) == "none", "a program may have read the row just before"
    world.now = 5.0
    world.update(changed(WEB, end("10.0.0.4")))
    assert world.record(number) == "10.0.0.4:8080"


# ----------------------------------------------------------------------------------------------------------- restart


def test_a_restart_keeps_those_that_drain(world: World) -> None:
    drains = changed(WEB, end("10.0.0.1"), end("10.0.0.2", terminating=True))
    world.update(drains)
    numbers = world.number_of("10.0.0.1"), world.number_of("10.0.0.2")
    world.restart()
    fresh = row("10.96.0.9", "10.0.0.9")
    assert not world.update(fresh)
    assert world.number_of("10.0.0.9") not in numbers, "its row may still come"
    world.update(drains)
    assert world.journal == []
    world.operations.prune([drains, fresh])
    world.update(drains, fresh)
    assert (world.number_of("10.0.0.1"), world.number_of("10.0.0.2")) == numbers
    world.update(changed(WEB, end("10.0.0.1")), fresh)
    assert world.number_of("10.0.0.2") == 0


def test_pruned_before_it_is_updated(world: World) -> None:
    """As every refresh does: books are read anew, and who drains is in no slot."""
    drains = changed(WEB, end("10.0.0.1"), end("10.0.0.2", terminating=True))
    world.update(drains)
    number = world.number_of("10.0.0.2")
    world.operations.prune([drains])
    assert world.number_of("10.0.0.2") == number
    world.delete(drains)
    assert (world.number_of("10.0.0.1"), world.number_of("10.0.0.2")) == (0, 0)


def test_records_of_a_former_life_that_nobody_wants(world: World) -> None:
    stay = changed(WEB, end("10.0.0.1"))
    world.update(stay, row("10.96.0.2", "10.0.0.2"))
    stray = np.zeros(1, BACKEND)
    stray["address"], stray["port"] = 9, 99
    world.backends.update(np.array([7], np.uint32), stray)
    world.restart()
    world.update(stay)
    assert world.number_of("10.0.0.2"), "not before everything is known"
    world.operations.prune([stay])
    assert [number for number in range(12) if world.record(number) != "none"] == [world.number_of("10.0.0.1")]
    assert world.ends(stay) == ["10.0.0.1:8080"]


def test_a_backend_with_two_records_is_the_one_in_use(world: World) -> None:
    stay = changed(WEB, end("10.0.0.1"))
    world.update(stay)
    number = world.number_of("10.0.0.1")
    world.backends.update(np.array([9], np.uint32), world.backends.lookup(np.array([number], np.uint32))[0])
    world.restart()
    world.update(stay)
    assert world.journal == []
    world.operations.prune([stay])
    assert (world.record(number), world.record(9)) == ("10.0.0.1:8080", "none")


def test_zeroing_fails_and_is_done_later(world: World) -> None:
    world.update(changed(WEB, end("10.0.0.1")))
    number = world.number_of("10.0.0.1")
    world.backends.fail_next()
    with pytest.raises(Exception, match="cilium_lb_backends"):
        world.update(WEB)
    assert world.ends(WEB) == []
    assert world.record(number) == "10.0.0.1:8080"
    world.operations.prune([WEB])
    assert world.record(number) == "none"


# ------------------------------------------------------------------------------------------------------------ scopes


def test_inside_and_outside_are_rows_of_their_own(world: World) -> None:
    inside, from_outside = row("192.0.2.1", "10.0.0.1", "10.0.0.2"), outside("192.0.2.1", "10.0.0.1", local=True)
    world.update(inside, from_outside)
    assert world.ends(inside) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert world.ends(from_outside) == ["10.0.0.1:8080"]
    assert world.id(inside) != world.id(from_outside)
    world.delete(from_outside)
    assert (world.ends(from_outside), len(world.ends(inside))) == (["no service"], 2)
    assert from_outside.scope is Scope.EXTERNAL
