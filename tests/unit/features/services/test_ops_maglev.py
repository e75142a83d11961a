"""Tables of services: when they are made, shared, kept and taken away."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import pytest
from unit.features.services.mapped import TABLE, World, changed, end, outside, row

from cilium.datapath.addresses import address_bytes
from cilium.datapath.generated import ServiceFlags
from cilium.features.services.maglev import Maglev
from cilium.tables.services import Algorithm, Frontend

WEB = outside("192.0.2.1", "10.0.0.1", "10.0.0.2", "10.0.0.3")


@pytest.fixture
def world() -> World:
    return World()


def named(world: World, which: Frontend = WEB) -> list[str]:
    return [world.record(number) for number in world.table(which)]


def test_a_table_before_the_row_that_asks_for_it(world: World) -> None:
    assert not world.update(WEB)
    assert world.written == ["update backends", "update slots", "update maglev", "update services"]
    assert world.flags(WEB) == ServiceFlags.MAGLEV
    assert sorted(Counter(named(world)).values()) == [83, 84, 84]
    assert world.ends(WEB) == ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"], "the slots are there as well"


def test_every_node_has_the_same_whatever_its_ids(world: World) -> None:
    other = World()
    other.update(row("10.96.0.9", "10.0.0.9", "10.0.0.3", "10.0.0.2"))
    for each in (world, other):
        each.update(WEB)
    assert world.table(WEB) != other.table(WEB)
    assert named(world) == named(other)


def test_what_a_backend_is_called(world: World) -> None:
    """Part of the contract between nodes: address, port, protocol."""
    names = [address_bytes(one.address) + one.port.to_bytes(2, "big") + bytes([6]) for one in WEB.backends]
    table = Maglev(size=TABLE, seed=b"of a cluster").table(names, [1, 1, 1])
    world.update(WEB)
    assert named(world) == [f"{WEB.backends[index].address}:8080" for index in table]


def test_weights_are_shares_of_the_table(world: World) -> None:
    world.update(changed(WEB, end("10.0.0.1", weight=300), end("10.0.0.2", weight=100)))
    assert Counter(named(world)) == {"10.0.0.1:8080": 189, "10.0.0.2:8080": 62}


def test_those_that_drain_are_not_in_it(world: World) -> None:
    world.update(changed(WEB, end("10.0.0.1"), end("10.0.0.2", terminating=True)))
    assert set(named(world)) == {"10.0.0.1:8080"}


def test_services_with_the_same_backends_share_one(world: World) -> None:
    port = outside("0.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3", kind="NodePort")
    world.update(WEB, port)
    assert world.tables.made == 1
    assert world.table(WEB) == world.table(port)
    world.delete(WEB)
    assert len(world.table(port)) == TABLE
    world.delete(port)
    assert len(world.tables.dump()[0]) == 0


def test_nobody_waits_for_the_tables_of_others() -> None:
    """Computing takes its time: who needs none is served first, then as many as there are tables at once."""
    world = World({"cilium_lb_services": 256, "cilium_lb_slots": 512, "cilium_lb_backends": 256,
                   "cilium_lb_maglev": 256})  # fmt: skip
    tabled = [outside(f"192.0.2.{n}", f"10.0.0.{n}") for n in range(1, 101)]
    assert not world.update(*tabled, row("10.96.0.1", "10.0.0.1"))
    rows = [count for verb, name, count in world.journal if name == "cilium_lb_services"]
    assert rows == [1, 64, 36]


def test_a_change_makes_a_new_one_and_the_same_again_none(world: World) -> None:
    world.update(WEB)
    world.update(WEB)
    assert (world.journal, world.tables.made) == ([], 1)
    world.update(changed(WEB, end("10.0.0.1"), end("10.0.0.4")))
    assert world.tables.made == 2
    assert set(named(world)) == {"10.0.0.1:8080", "10.0.0.4:8080"}
    world.update(msgspec.structs.replace(WEB, local=True, backends=(end("10.0.0.1"), end("10.0.0.4"))))
    assert world.tables.made == 2, "the table does not care"


def test_nobody_is_there_or_random_again(world: World) -> None:
    world.update(WEB)
    world.update(changed(WEB))
    assert (world.flags(WEB), world.table(WEB)) == (ServiceFlags(0), [])
    world.update(WEB)
    assert len(world.table(WEB)) == TABLE
    world.update(msgspec.structs.replace(WEB, algorithm=Algorithm.RANDOM))
    assert (world.flags(WEB), world.table(WEB)) == (ServiceFlags(0), [])
    assert world.written == ["update services", "delete maglev"], "not before the row has let go of it"


# ----------------------------------------------------------------------------------------------------------- restart


def test_a_restart_keeps_them_and_prunes_what_went(world: World) -> None:
    gone = outside("192.0.2.2", "10.0.0.1")
    world.update(WEB, gone)
    before = dict(zip(*(column.tolist() for column in world.tables.dump()), strict=True))
    world.restart()
    assert not world.update(WEB)
    assert world.journal == []
    world.operations.prune([WEB])
    after = dict(zip(*(column.tolist() for column in world.tables.dump()), strict=True))
    assert after == {world.id(WEB): before[world.id(WEB)]}


def test_a_refresh_does_not_compute_them_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.update(WEB)
    monkeypatch.setattr(Maglev, "table", lambda *_: pytest.fail("computed"))
    world.operations.prune([WEB])
    world.update(WEB)
    assert len(world.table(WEB)) == TABLE


def test_another_size_or_backends_that_changed_while_nobody_looked(world: World) -> None:
    world.update(WEB)
    world.restart(table=509)
    assert not world.update(WEB)
    assert len(world.table(WEB)) == 509
    world.restart(table=509)
    world.update(changed(WEB, end("10.0.0.3")))
    assert set(named(world)) == {"10.0.0.3:8080"}


def test_what_others_have_put_in_its_place_is_made_good(world: World) -> None:
    world.update(WEB)
    right = world.table(WEB)
    world.tables.update(np.array([world.id(WEB)], np.uint32), [np.zeros(TABLE, np.uint32)], [0])
    world.operations.prune([WEB])
    world.update(WEB)
    assert world.table(WEB) == right


def test_the_rest_of_a_crash_goes(world: World) -> None:
    world.update(WEB)
    keys, _ = world.services.dump()
    world.services.delete(keys)
    world.restart()
    other = outside("192.0.2.9", "10.0.0.9", algorithm=Algorithm.RANDOM)
    world.update(other)
    world.operations.prune([other])
    assert len(world.tables.dump()[0]) == 0


# ------------------------------------------------------------------------------------------------------------- errors


def test_a_full_map_is_the_error_of_its_row(world: World) -> None:
    fits = [outside(f"192.0.2.{n}", f"10.0.0.{n}") for n in range(2, 5)]
    plain = outside("192.0.2.9", "10.0.0.9", algorithm=Algorithm.RANDOM)
    assert not world.update(*fits, plain)
    number = world.id(plain)
    errors = world.update(*fits, msgspec.structs.replace(plain, algorithm=Algorithm.MAGLEV), WEB)
    assert set(errors) == {plain.key, WEB.key}
    assert "cilium_lb_maglev has no room for 1 more of 3: raise bpf.lbMaglevMapMax" in str(errors[WEB.key])
    assert (world.id(plain), world.flags(plain)) == (number, ServiceFlags(0)), "it is as it was"
    assert world.value(WEB) is None
    world.delete(fits[0])
    assert not world.update(WEB)


def test_a_row_that_cannot_be_written_keeps_its_table(world: World) -> None:
    world.update(WEB)
    before = named(world)
    world.services.fail_next()
    assert list(world.update(changed(WEB, end("10.0.0.4")))) == [WEB.key]
    assert named(world) == before, "the new one would lead to backends that are not known any more"
    assert not world.update(changed(WEB, end("10.0.0.4")))
    assert set(named(world)) == {"10.0.0.4:8080"}


def test_a_table_that_cannot_be_removed(world: World) -> None:
    world.update(WEB)
    world.tables.outer.fail_next()
    assert list(world.delete(WEB)) == [WEB.key]
    assert not world.delete(WEB)
    assert len(world.tables.dump()[0]) == 0


def test_a_row_that_fails_is_its_own_error_even_if_its_former_backends_have_no_record(world: World) -> None:
    """Somebody emptied it, or the map became smaller: no table can be made for what the row was."""
    web, other = outside("192.0.2.1", "10.0.0.1"), outside("192.0.2.2", "10.0.0.2")
    world.update(web, other)
    world.backends.update(np.array([world.number_of("10.0.0.1")], np.uint32), np.zeros(1, world.backends.spec.value))
    world.restart()
    world.services.fail_next()
    assert list(world.update(web, other)) == [web.key]
    assert not world.update(web, other)
    assert world.ends(web) == ["10.0.0.1:8080"]
