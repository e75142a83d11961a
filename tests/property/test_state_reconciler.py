"""The reconciler against chaos: whatever fails and changes, once faults end the world is what the table says."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from unit.state.world import Row, World, make_table

from cilium.state import Kind, ManualClock, Reconciler

names = st.sampled_from("abcdef")
events = st.one_of(
    st.tuples(st.just("upsert"), names, st.integers(0, 3)),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("refuse"), st.sets(names)),
    st.tuples(st.just("down"), st.booleans()),
    st.tuples(st.just("poison"), st.sampled_from(["", "a", "d"])),
    st.tuples(st.just("vandal"), names),
    st.tuples(st.just("ready")),
    st.tuples(st.just("advance"), st.floats(0, 20)),
    st.tuples(st.just("round")),
    st.tuples(st.just("during"), names, st.integers(0, 3)),
)


class Interrupted(World):
    """Lets the table change while an operation is under way."""

    def __init__(self) -> None:
        super().__init__()
        self.during: list[Row] = []
        self.table = make_table()
        self.writer = self.table.writer("test")

    async def update(self, rows: list[Row]) -> dict[str, str]:  # type: ignore[override]  # the async flavour
        while self.during:
            self.writer.upsert(self.during.pop())
            await asyncio.sleep(0)
        return super().update(rows)


async def play(script: list[tuple[object, ...]]) -> None:
    world = Interrupted()
    clock = ManualClock()
    reconciler = Reconciler(
        "r", table=world.table, operations=world, clock=clock, retry_min=0.5, retry_max=4.0, refresh=50.0
    )
    for event in script:
        match event:
            case ("upsert", str(name), int(value)):
                world.writer.upsert(Row(name, value))
            case ("delete", str(name)):
                world.writer.delete(name)
            case ("refuse", set() as refused):
                world.refuse = set(refused)
            case ("down", bool(down)):
                world.down = OSError("down") if down else None
            case ("poison", str(name)):
                world.poison = name
            case ("vandal", str(name)):
                world.things[name] = -1
            case ("ready",):
                world.writer.ready()
            case ("advance", float(seconds)):
                clock.advance(seconds)
            case ("during", str(name), int(value)):
                world.during.append(Row(name, value))
            case _:
                await reconciler.round()
        settled = {row.key: row.revision for row in reconciler.status.snapshot()}
        assert all(revision <= world.table.revision for revision in settled.values())
    world.refuse, world.down, world.poison = set(), None, ""
    world.writer.ready()
    for _ in range(4):  # changes, retries and the refresh that repairs the vandal's work
        clock.advance(51.0)
        await reconciler.round()
    wanted = {row.name: row.value for row in world.table.snapshot()}
    assert world.things == wanted
    assert {row.key for row in reconciler.status.snapshot()} == wanted.keys()
    assert all(row.kind is Kind.DONE for row in reconciler.status.snapshot())
    assert reconciler.errors() == []


@settings(max_examples=200, deadline=None)
@given(st.lists(events, max_size=40))
def test_the_world_follows_the_table_once_faults_end(script: list[tuple[object, ...]]) -> None:
    asyncio.run(play(script))
