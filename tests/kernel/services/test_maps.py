"""Services in the real maps: what is there after changes, restarts and errors of the kernel."""

from __future__ import annotations

import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from unit.features.services.mapped import SIZES, View, changed, end, outside, ranges, row

from cilium.datapath.generated.maps import MAPS
from cilium.datapath.loader import load
from cilium.datapath.maps import PinnedMap
from cilium.datapath.nested import Nested
from cilium.datapath.paths import OBJECT_DIRECTORY
from cilium.tables.services import Frontend

pytestmark = pytest.mark.kernel
ENDS = {4: ("10.0.0.1", "10.0.0.2", "10.0.0.3"), 6: ("fd00::1", "fd00::2", "fd00::3")}
ADDRESS = {4: "192.0.2.1", 6: "2001:db8::1"}


@pytest.fixture
def world(objects: None) -> Iterator[View]:
    """Maps of their own, as small as those in memory."""
    pins = Path(f"/sys/fs/bpf/test-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        with load(OBJECT_DIRECTORY / "sock.bpf.o", pin_dir=pins, max_entries=SIZES):
            maps = {name: PinnedMap(name, pins) for name in MAPS if name.startswith("cilium_lb_")}
            tables = Nested(maps.pop("cilium_lb_maglev"))
            yield View(maps, tables)
            for each in (*maps.values(), tables):
                each.close()
    finally:
        shutil.rmtree(pins, ignore_errors=True)


def whole(version: int) -> Frontend:
    """A service with everything that there is beside it."""
    lists = ranges("10.0.0.0/8", "2001:db8:1::/48") | {"affinity_timeout": 60, "skip_netns": (71,)}
    base = outside(ADDRESS[version], *ENDS[version])
    return msgspec.structs.replace(base, **{name: value for name, value in lists.items() if name != "algorithm"})


@pytest.mark.parametrize("version", [4, 6])
def test_all_that_belongs_to_a_service_comes_and_goes(world: View, version: int) -> None:
    web = whole(version)
    inside = msgspec.structs.replace(row(ADDRESS[version], *ENDS[version]), kind="LocalRedirect", skip_netns=(71,))
    assert not world.update(web, inside)
    assert len(world.ends(web)) == len(world.matches(web)) == 3
    assert world.asks(web, "10.1.1.1" if version == 4 else "2001:db8:1::1")
    assert not world.asks(web, "198.51.100.1" if version == 4 else "2001:db8:2::1")
    assert world.skips(inside, 71)
    assert sorted(Counter(world.table(web)).values()) == [83, 84, 84]
    assert not world.delete(web, inside)
    assert [len(each.dump()[0]) for each in (world.services, world.match, world.ranges, world.skip)] == [0, 0, 0, 0]
    assert len(world.tables.dump()[0]) == 0
    assert all(world.number_of(ip) == 0 for ip in ENDS[version])


@pytest.mark.parametrize("version", [4, 6])
def test_a_restart_finds_everything_and_prunes_what_went(world: View, version: int) -> None:
    first, second, third = ENDS[version]
    stay = msgspec.structs.replace(
        whole(version), backends=(end(first, weight=2), end(second), end(third, terminating=True))
    )
    gone = msgspec.structs.replace(stay, port=81)
    world.update(stay, gone)
    number, table = world.id(stay), world.tables.dump()
    slots, draining = world.numbers(stay), world.number_of(third)
    array = {int(key): int(value) for key, value in zip(*table, strict=True)}[number]
    world.restart()
    assert not world.update(stay)
    assert not world.operations.prune([stay])
    assert not world.update(stay)
    assert (world.id(stay), world.numbers(stay), world.number_of(third)) == (number, slots, draining)
    assert [(int(key), int(value)) for key, value in zip(*world.tables.dump(), strict=True)] == [(number, array)]
    assert world.value(gone) is None
    assert len(world.match.dump()[0]) == 2
    assert len(world.ranges.dump()[0]) == 1


def test_full_maps_are_errors_of_single_rows(world: View) -> None:
    tables = [outside(f"192.0.2.{n}", f"10.0.0.{n}") for n in range(1, 4)]
    assert not world.update(*tables)
    fourth, listed = outside("192.0.2.4", "10.0.0.4"), outside("192.0.2.5", "10.0.0.5", **ranges("10.0.0.0/8"))
    errors = world.update(*tables, fourth, listed)
    assert list(errors) == [fourth.key]
    assert "cilium_lb_maglev has no room for 1 more of 3" in str(errors[fourth.key])
    greedy = msgspec.structs.replace(listed, **ranges(*(f"10.{n}.0.0/16" for n in range(9))))
    errors = world.update(greedy)
    assert "cilium_lb_source_ranges has no room for 1 more of 8" in str(errors[greedy.key])
    assert [world.asks(listed, ip) for ip in ("10.200.0.1", "172.16.0.1")] == [True, False], "as it was"
    assert len(world.ranges.dump()[0]) == 1
    sticky = [outside(f"192.0.2.{n}", f"10.0.0.{n}", affinity_timeout=9, algorithm=fourth.algorithm) for n in (1, 2)]
    assert not world.update(*sticky)
    more = [row(f"10.96.0.{n}") for n in range(9)]
    errors = world.update(*more)
    assert len(errors) == 5
    assert all("cilium_lb_services has no room" in str(error) for error in errors.values())
    world.delete(tables[2], more[0])
    assert not world.update(fourth)


def test_a_change_of_backends_replaces_the_table(world: View) -> None:
    web = outside("192.0.2.1", "10.0.0.1", "10.0.0.2")
    world.update(web)
    before = {place: world.record(number) for place, number in enumerate(world.table(web))}
    world.update(changed(web, end("10.0.0.2"), end("10.0.0.3")))
    after = {place: world.record(number) for place, number in enumerate(world.table(web))}
    assert set(after.values()) == {"10.0.0.2:8080", "10.0.0.3:8080"}
    moved = [place for place, name in before.items() if name == "10.0.0.2:8080" and after[place] != name]
    assert len(moved) < 63, "most connections to the one that stays, stay"
