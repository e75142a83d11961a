"""Derivations: when they run, what they see, when their outputs are initialised, what a defect does."""

from __future__ import annotations

import asyncio

import pytest

from cilium.state import Derivation, DerivationError, RowChanges, Table, View

Row = tuple[str, int]


def table(name: str) -> Table[str, Row]:
    return Table(name, key=lambda row: row[0])


def double(view: View) -> dict[str, RowChanges[str, Row]]:
    changes = view.changes["in"]
    return {
        "out": RowChanges(
            upserts=[(c.key, c.new[1] * 2) for c in changes if c.new is not None],
            deletes=[c.key for c in changes if c.new is None],
        )
    }


def test_step_follows_inserts_updates_and_deletes() -> None:
    source, target = table("in"), table("out")
    writer = source.writer("test")
    writer.upsert(("before", 1))
    derivation = Derivation("double", inputs={"in": source}, outputs={"out": target.writer("d")}, compute=double)
    assert derivation.step()
    assert not derivation.step()
    writer.commit([("a", 2), ("before", 3)])
    assert derivation.step()
    assert sorted(target.snapshot()) == [("a", 4), ("before", 6)]
    writer.delete("a")
    derivation.step()
    assert list(target.snapshot()) == [("before", 6)]


def test_compute_runs_once_even_with_nothing_there() -> None:
    source, target = table("in"), table("out")

    def constant(view: View) -> dict[str, RowChanges[str, Row]]:
        return {"out": RowChanges(upserts=[("reserved", len(view.snapshots["in"]))])}

    Derivation("d", inputs={"in": source}, outputs={"out": target.writer("d")}, compute=constant).step()
    assert list(target.snapshot()) == [("reserved", 0)]


def test_outputs_are_initialised_after_every_input_was_seen_in_full() -> None:
    one, two, target = table("one"), table("two"), table("out")
    first, second = one.writer("test"), two.writer("test")
    done = first.initializer("list")

    def collect(view: View) -> dict[str, RowChanges[str, Row]]:
        return {"out": RowChanges(upserts=[c.new for rows in view.changes.values() for c in rows if c.new])}

    derivation = Derivation("d", inputs={"one": one, "two": two}, outputs={"out": target.writer("d")}, compute=collect)
    derivation.step()
    second.ready()
    derivation.step()
    assert not target.initialized
    first.upsert(("last", 1))
    done()
    assert not target.initialized, "the input is complete, but was not seen in full"
    derivation.step()
    assert target.initialized
    assert "last" in target.snapshot()


async def test_run_wakes_on_changes_and_on_initialisation_and_chains() -> None:
    source, middle, target = table("in"), table("in"), table("out")
    writer = source.writer("test")
    first = Derivation("first", inputs={"in": source}, outputs={"out": middle.writer("d")}, compute=double)
    second = Derivation("second", inputs={"in": middle}, outputs={"out": target.writer("d")}, compute=double)
    stream = target.changes()
    stream.pop()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(first.run()), tasks.create_task(second.run())]
        writer.upsert(("a", 1))
        await stream.wait()
        assert [c.new for c in stream.pop()] == [("a", 4)]
        writer.ready()
        await target.wait_initialized()
        for task in running:
            task.cancel()


def test_a_defect_names_the_derivation() -> None:
    source, target = table("in"), table("out")

    def broken(view: View) -> dict[str, RowChanges[str, Row]]:
        raise KeyError("oops")

    derivation = Derivation("endpoints", inputs={"in": source}, outputs={"out": target.writer("d")}, compute=broken)
    with pytest.raises(DerivationError, match=r"'endpoints' failed on in \(0 changes\): KeyError\('oops'\)"):
        derivation.step()


def test_an_unknown_output_is_refused() -> None:
    source, target = table("in"), table("out")
    derivation = Derivation(
        "d", inputs={"in": source}, outputs={"out": target.writer("d")}, compute=lambda view: {"ouch": RowChanges()}
    )
    with pytest.raises(DerivationError, match="computed ouch, but its outputs are out"):
        derivation.step()
    with pytest.raises(DerivationError, match="at least one input"):
        Derivation("empty", inputs={}, outputs={}, compute=double)
