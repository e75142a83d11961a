"""What is written to the maps and in which order, what a restart finds, and what happens when they are full."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from unit.features.services.mapped import World, row

from cilium.datapath.maps import MapWriteError
from cilium.features.services.ops import OffLoop
from cilium.state import Reconciler, Table
from cilium.tables.services import Frontend


@pytest.fixture
def world() -> World:
    return World()


def test_backends_then_slots_then_the_row(world: World) -> None:
    web = row("10.96.0.1", "10.0.0.1", "10.0.0.2")
    assert not world.update(web)
    assert [(verb, name) for verb, name, _ in world.journal] == [
        ("update", "cilium_lb_backends"), ("update", "cilium_lb_slots"), ("update", "cilium_lb_services"),
    ]  # fmt: skip
    assert world.ends(web) == ["10.0.0.1:8080", "10.0.0.2:8080"]


def test_a_change_writes_a_new_range_and_leaves_the_old_one_alone(world: World) -> None:
    web, more = row("10.96.0.1", "10.0.0.1"), row("10.96.0.1", "10.0.0.1", "10.0.0.2")
    world.update(web)
    before = world.slots.dump()[1][:1].tolist()
    number = world.id(web)
    world.update(more)
    assert world.journal == [
        ("update", "cilium_lb_backends", 1), ("update", "cilium_lb_slots", 2), ("update", "cilium_lb_services", 1),
    ]  # fmt: skip
    assert world.slots.dump()[1][:1].tolist() == before, "a connect that read the row before still finds its backend"
    assert world.ends(more) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert world.id(more) == number


def test_the_same_again_writes_nothing(world: World) -> None:
    rows = row("10.96.0.1", "10.0.0.1"), row("10.96.0.2")
    world.update(*rows)
    world.update(*rows)
    assert world.journal == []


def test_services_with_the_same_backends_share_their_slots(world: World) -> None:
    world.update(row("10.96.0.1", "10.0.0.1", "10.0.0.2"), row("192.0.2.1", "10.0.0.1", "10.0.0.2"))
    assert ("update", "cilium_lb_slots", 2) in world.journal
    world.delete(row("10.96.0.1", "10.0.0.1", "10.0.0.2"))
    assert world.ends(row("192.0.2.1")) == ["10.0.0.1:8080", "10.0.0.2:8080"]


def test_protocols_and_families_are_not_mixed_up(world: World) -> None:
    tcp, udp = row("10.96.0.1", "10.0.0.1"), row("10.96.0.1", "10.0.0.1", protocol="UDP")
    six = row("fd00::1", "fd00::2")
    world.update(tcp, udp, six)
    assert ("update", "cilium_lb_backends", 3) in world.journal
    assert world.ends(six) == ["fd00::2:8080"]
    world.operations.delete([udp])
    assert world.ends(udp) == ["no service"]
    assert world.ends(tcp) == ["10.0.0.1:8080"]


def test_a_backend_that_terminates_keeps_its_number(world: World) -> None:
    web = row("10.96.0.1", "10.0.0.1")
    world.update(web)
    world.update(row("10.96.0.1", "10.0.0.1", terminating=True))
    assert world.journal == [("update", "cilium_lb_backends", 1)]


def test_a_restart_keeps_ids_and_writes_nothing(world: World) -> None:
    rows = [row("10.96.0.1", "10.0.0.1", "10.0.0.2"), row("10.96.0.2", "10.0.0.3"), row("10.96.0.3")]
    world.update(*rows)
    ids = [world.id(each) for each in rows]
    world.restart()
    assert not world.update(*reversed(rows))
    assert world.journal == []
    assert [world.id(each) for each in rows] == ids
    fresh = row("10.96.0.4", "10.0.0.4")
    world.update(fresh)
    assert world.id(fresh) not in ids
    assert [world.ends(each) for each in rows] == [["10.0.0.1:8080", "10.0.0.2:8080"], ["10.0.0.3:8080"], []]


@pytest.mark.parametrize("sizes", [{"cilium_lb_slots": 4}, {"cilium_lb_backends": 4}, {"cilium_lb_services": 2}])
def test_maps_that_became_smaller(world: World, sizes: dict[str, int]) -> None:
    """What lay beyond the new end is made good; nobody gets a number that is not there, or means nobody."""
    rows = [row(f"10.96.0.{n}", f"10.0.0.{n}") for n in range(1, 7)]
    world.update(*rows)
    small = World(sizes)
    for name, port in world.maps.items():
        keys, values = port.dump()
        with suppress(MapWriteError):
            small.maps[name].update(
                keys[: small.maps[name].spec.max_entries], values[: small.maps[name].spec.max_entries]
            )
    small.restart()
    few, fresh = [rows[5], rows[0]], row("10.96.0.9", "10.0.0.9")
    small.update(*few)  # there may be no room beside those that will go
    small.operations.prune(few)
    small.now = 5.0
    assert not small.update(*few)
    assert [small.ends(each) for each in few] == [["10.0.0.6:8080"], ["10.0.0.1:8080"]]
    small.now = 10.0
    small.delete(few[0])
    small.now = 20.0
    assert not small.update(fresh)
    assert small.ends(fresh) == ["10.0.0.9:8080"]
    assert 0 not in small.numbers(fresh)
    small.now = 30.0
    errors = small.update(*rows)
    assert errors, "there is no room for all"
    assert all("has no room" in str(error) for error in errors.values())


def test_rows_that_say_the_same_in_two_places_come_to_share_one(world: World) -> None:
    """Nothing here writes that; if it is found, neither place is given to others while a row points there."""
    first, second = row("10.96.0.1", "10.0.0.1"), row("10.96.0.2", "10.0.0.2")
    world.update(first, second)
    start, number = world.value(second)["slots"], world.number_of("10.0.0.1")
    world.slots.update(np.array([start], np.uint32), np.array([number], np.uint32))
    world.restart()
    both = first, row("10.96.0.2", "10.0.0.1")
    world.update(*both)
    world.now = 10.0
    world.update(row("10.96.0.3", "10.0.0.3"), row("10.96.0.4", "10.0.0.4"))
    assert [world.ends(each) for each in both] == [["10.0.0.1:8080"]] * 2


def test_prune_removes_what_was_deleted_while_nobody_looked(world: World) -> None:
    stay, go = row("10.96.0.1", "10.0.0.1"), row("10.96.0.2", "10.0.0.2")
    world.update(stay, go)
    world.restart()
    world.update(stay)
    assert world.ends(go) == ["10.0.0.2:8080"], "not before everything is known"
    world.operations.prune([stay])
    assert world.ends(go) == ["no service"]
    assert world.ends(stay) == ["10.0.0.1:8080"]


def test_what_others_have_broken_is_healed_after_a_prune(world: World) -> None:
    web = row("10.96.0.1", "10.0.0.1")
    world.update(web)
    keys, values = world.services.dump()
    values["count"] = 0
    world.services.update(keys, values)
    world.operations.prune([web])
    world.update(web)
    assert world.ends(web) == ["10.0.0.1:8080"]


def test_full_maps_are_errors_of_single_rows_and_heal(world: World) -> None:
    rows = [row(f"10.96.0.{n}", f"10.0.0.{n}") for n in range(1, 10)]
    errors = world.update(*rows)
    assert list(errors) == [rows[8].key], "room for eight services"
    assert "cilium_lb_services" in str(errors[rows[8].key])
    big = row("10.96.0.1", *(f"10.0.1.{n}" for n in range(1, 6)))
    errors = world.update(big)
    assert "cilium_lb_backends has no room" in str(errors[big.key])
    assert "bpf.lbServiceBackendMapMax" in str(errors[big.key])
    assert world.ends(rows[0]) == ["10.0.0.1:8080"], "what worked before still does"
    world.operations.delete(rows[4:8])
    world.now = 10.0
    assert not world.update(big, rows[8])
    assert len(world.ends(big)) == 5


def test_a_failing_write_leaves_nothing_half_done(world: World) -> None:
    web = row("10.96.0.1", "10.0.0.1")
    world.update(web)
    world.slots.fail_next()
    more = row("10.96.0.1", "10.0.0.1", "10.0.0.2")
    with pytest.raises(Exception, match="cilium_lb_slots"):
        world.update(more)
    assert world.ends(web) == ["10.0.0.1:8080"]
    assert not world.update(more)
    assert world.ends(more) == ["10.0.0.1:8080", "10.0.0.2:8080"]


def test_deleting_fails_row_by_row_and_what_is_absent_is_no_error(world: World) -> None:
    first, second = row("10.96.0.1", "10.0.0.1"), row("10.96.0.2", "10.0.0.2")
    world.update(first, second)
    world.services.fail_next()
    assert list(world.operations.delete([first, second])) == [first.key]
    assert world.ends(second) == ["no service"]
    assert not world.operations.delete([first, second])


async def test_as_a_reconciler_runs_them(world: World) -> None:
    """Through the cell's own wrapping: rows appear, change, go; the rest of a former life is pruned."""
    left = row("10.96.0.9", "10.0.0.9")
    world.update(left)
    world.restart()
    table: Table[Any, Frontend] = Table("frontends", key=lambda each: each.key)
    writer = table.writer("test")
    reconciler = Reconciler("services", table=table, operations=OffLoop(world.operations), debounce=0)
    web = row("10.96.0.1", "10.0.0.1")
    writer.upsert(web)
    writer.ready()
    await reconciler.round()
    assert (world.ends(web), world.ends(left)) == (["10.0.0.1:8080"], ["no service"])
    writer.upsert(row("10.96.0.1", "10.0.0.2"))
    await reconciler.round()
    assert world.ends(web) == ["10.0.0.2:8080"]
    writer.delete(web.key)
    await reconciler.round()
    assert world.ends(web) == ["no service"]
    assert not reconciler.errors()
