"""The reconciler: batches, statuses, retries, prune, refresh, stale outcomes, metrics. Time is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from unit.state.world import Row, SlowWorld, World, make_table

from cilium.state import Kind, ManualClock, Reconciler, RowStatus, Table


class Setup:
    def __init__(self, **options: Any) -> None:
        self.table = make_table()
        self.writer = self.table.writer("test")
        self.world = World()
        self.clock = ManualClock()
        options = {"retry_min": 1.0, "retry_max": 8.0, "refresh": 100.0} | options
        self.reconciler = Reconciler("things", table=self.table, operations=self.world, clock=self.clock, **options)

    def status(self, key: str) -> RowStatus[str] | None:
        return self.reconciler.status.snapshot().get(key)

    async def after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.reconciler.round()


async def test_one_batch_per_operation_and_deletes_first() -> None:
    s = Setup()
    s.writer.commit([Row("a"), Row("b")])
    await s.reconciler.round()
    s.writer.commit([Row("a", 1), Row("c")], ["b"])
    await s.reconciler.round()
    assert s.world.calls == [("update", ["a", "b"]), ("delete", ["b"]), ("update", ["a", "c"])]
    assert s.world.things == {"a": 1, "c": 0}
    assert s.status("a") == RowStatus("a", Kind.DONE, 2)
    assert s.status("b") is None


async def test_updates_first_when_asked() -> None:
    s = Setup(order="updates")
    s.writer.commit([Row("a")])
    await s.reconciler.round()
    s.writer.commit([Row("b")], ["a"])
    await s.reconciler.round()
    assert [operation for operation, _ in s.world.calls] == ["update", "update", "delete"]


async def test_one_bad_row_leaves_the_others_undisturbed_and_backs_off() -> None:
    s = Setup()
    s.world.refuse = {"bad"}
    s.writer.commit([Row("bad"), Row("good")])
    await s.reconciler.round()
    assert s.world.things == {"good": 0}
    assert s.reconciler.errors() == [RowStatus("bad", Kind.ERROR, 1, "bad refused", 1)]
    attempts_at = []
    for second in range(1, 40):
        calls = len(s.world.calls)
        await s.after(1)
        if len(s.world.calls) > calls:
            attempts_at.append(second)
    assert attempts_at == [1, 3, 7, 15, 23, 31, 39], "1, 2, 4, then 8 seconds"
    s.world.refuse = set()
    await s.after(8)
    assert s.world.things == {"good": 0, "bad": 0}
    assert s.status("bad") == RowStatus("bad", Kind.DONE, 1)
    assert s.reconciler.errors() == []


async def test_a_batch_that_raises_fails_every_row_and_is_retried_in_parts() -> None:
    s = Setup()
    s.world.down = OSError("no kernel today")
    s.writer.commit([Row("a"), Row("b")])
    await s.reconciler.round()
    assert {(r.key, r.error) for r in s.reconciler.errors()} == {("a", "no kernel today"), ("b", "no kernel today")}
    s.world.down = None
    await s.after(1)
    assert s.world.names("update") == [["a", "b"], ["a"], ["b"]]
    assert s.world.things == {"a": 0, "b": 0}


async def test_a_row_that_fails_its_whole_batch_ends_up_alone() -> None:
    s = Setup()
    s.world.poison = "r777"
    s.writer.commit(Row(f"r{i}") for i in range(1000))
    await s.reconciler.round()
    assert len(s.reconciler.errors()) == 1000
    for _ in range(3):
        await s.after(8)
    assert [row.key for row in s.reconciler.errors()] == ["r777"]
    assert len(s.world.things) == 999
    assert len(s.world.calls) < 100


async def test_a_newer_wish_displaces_the_retry() -> None:
    s = Setup()
    s.world.refuse = {"a"}
    s.writer.upsert(Row("a", 1))
    await s.reconciler.round()
    s.world.refuse = set()
    s.writer.upsert(Row("a", 2))
    await s.reconciler.round()
    assert s.world.things == {"a": 2}
    await s.after(50)
    assert s.world.things == {"a": 2}
    assert len(s.world.names("update")) == 2, "nothing of the old wish came back"


async def test_a_failed_delete_is_retried_until_gone() -> None:
    s = Setup()
    s.writer.upsert(Row("a"))
    await s.reconciler.round()
    s.world.refuse = {"a"}
    s.writer.delete("a")
    await s.reconciler.round()
    assert s.status("a") == RowStatus("a", Kind.ERROR, 2, "a refused", 1)
    s.world.refuse = set()
    await s.after(1)
    assert (s.world.things, s.status("a")) == ({}, None)


async def test_a_row_that_returns_while_its_delete_is_failing_stays() -> None:
    s = Setup()
    s.writer.upsert(Row("a", 1))
    await s.reconciler.round()
    s.world.refuse = {"a"}
    s.writer.delete("a")
    await s.reconciler.round()
    s.world.refuse = set()
    s.writer.upsert(Row("a", 1))
    await s.after(60)
    assert s.world.things == {"a": 1}
    assert s.status("a") == RowStatus("a", Kind.DONE, 3)


async def test_prune_waits_for_initialisation_and_comes_after_the_updates() -> None:
    s = Setup()
    s.world.things = {"left over": 1, "a": 9}
    s.writer.upsert(Row("a", 1))
    await s.reconciler.round()
    assert s.world.things == {"left over": 1, "a": 1}
    s.writer.upsert(Row("b"))
    s.writer.ready()
    await s.reconciler.round()
    assert s.world.things == {"a": 1, "b": 0}
    assert s.world.calls[-2:] == [("update", ["b"]), ("prune", ["a", "b"])]
    assert s.reconciler.pruned
    assert s.reconciler.status.initialized


async def test_refresh_heals_what_others_broke() -> None:
    s = Setup()
    s.writer.commit([Row("a", 1), Row("b", 2)])
    s.writer.ready()
    await s.reconciler.round()
    s.world.things = {"b": 7, "intruder": 1}
    await s.after(99)
    assert "intruder" in s.world.things
    await s.after(1)
    assert s.world.things == {"a": 1, "b": 2}


async def test_a_failed_prune_backs_off() -> None:
    s = Setup()
    s.writer.ready()
    s.world.things = {"left over": 1}
    s.world.down = OSError("busy")
    await s.reconciler.round()
    assert (s.reconciler.prune_error, s.reconciler.pruned) == ("busy", False)
    await s.after(0.5)
    assert len(s.world.names("prune")) == 1
    s.world.down = None
    await s.after(0.5)
    assert (s.reconciler.prune_error, s.reconciler.pruned, s.world.things) == ("", True, {})


async def test_an_old_outcome_does_not_overwrite_a_newer_wish() -> None:
    s = Setup()
    slow = SlowWorld(s.world)
    reconciler = Reconciler("slow", table=s.table, operations=slow, clock=s.clock, retry_min=1.0)
    s.world.refuse = {"a"}
    s.writer.upsert(Row("a", 1))
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(reconciler.round())
        await slow.entered.wait()
        assert reconciler.status.snapshot()["a"].kind is Kind.PENDING
        s.writer.upsert(Row("a", 2))
        slow.gate.set()
        await first
    assert reconciler.status.snapshot()["a"] == RowStatus("a", Kind.ERROR, 1, "a refused", 1)
    s.world.refuse = set()
    s.clock.advance(60)  # the retry of 1 is due together with the new wish
    await reconciler.round()
    assert s.world.things == {"a": 2}
    assert reconciler.status.snapshot()["a"] == RowStatus("a", Kind.DONE, 2)


async def test_a_failure_whose_newer_wish_was_taken_back_is_still_retried() -> None:
    s = Setup()
    slow = SlowWorld(s.world)
    reconciler = Reconciler("slow", table=s.table, operations=slow, clock=s.clock, retry_min=1.0)
    s.world.refuse = {"a"}
    s.writer.upsert(Row("a", 1))
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(reconciler.round())
        await slow.entered.wait()
        s.writer.upsert(Row("a", 2))
        slow.gate.set()
        await first
    s.writer.upsert(Row("a", 1))
    s.world.refuse = set()
    await reconciler.round()
    s.clock.advance(1)
    await reconciler.round()
    assert s.world.things == {"a": 1}


async def test_run_debounces_retries_and_prunes_by_the_clock() -> None:
    s = Setup(debounce=0.5)
    s.world.refuse = {"bad"}
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(s.reconciler.run())
        s.writer.upsert(Row("a"))
        await turn()
        s.writer.upsert(Row("bad"))
        assert s.world.calls == []
        s.clock.advance(0.5)
        await s.reconciler.wait_done()
        assert s.world.calls == [("update", ["a", "bad"])]
        s.world.refuse = set()
        await turn()
        s.clock.advance(1.0)
        await turn()
        s.clock.advance(0.5)
        await turn()
        assert s.world.things == {"a": 0, "bad": 0}
        s.writer.ready()
        await turn()
        s.clock.advance(0.5)
        await turn()
        assert s.reconciler.pruned
        running.cancel()


async def turn() -> None:
    """Every task that can go on goes on until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_wait_done_waits_for_a_revision_to_come() -> None:
    s = Setup()
    waiting = asyncio.create_task(s.reconciler.wait_done(2))
    s.writer.upsert(Row("a"))
    await s.reconciler.round()
    await turn()
    assert not waiting.done()
    s.writer.upsert(Row("a", 1))
    s.writer.upsert(Row("a", 0))
    await s.reconciler.round()
    async with asyncio.timeout(5):
        await waiting


class Counts:
    def __init__(self) -> None:
        self.operations: list[tuple[str, str, int, int]] = []
        self.failing_rows = -1

    def operation(self, reconciler: str, operation: str, *, rows: int, failed: int, seconds: float) -> None:
        assert seconds >= 0
        self.operations.append((reconciler, operation, rows, failed))

    def failing(self, reconciler: str, rows: int) -> None:
        self.failing_rows = rows


async def test_metrics_count_rows_and_failures() -> None:
    counts = Counts()
    s = Setup(metrics=counts)
    s.world.refuse = {"b"}
    s.writer.commit([Row("a"), Row("b")])
    s.writer.ready()
    await s.reconciler.round()
    assert counts.operations == [("things", "update", 2, 1), ("things", "prune", 2, 0)]
    assert counts.failing_rows == 1


async def test_cancellation_is_no_failure_of_a_row() -> None:
    s = Setup()
    slow = SlowWorld(s.world)
    reconciler = Reconciler("slow", table=s.table, operations=slow, clock=s.clock)
    s.writer.upsert(Row("a"))
    task = asyncio.create_task(reconciler.round())
    await slow.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reconciler.status.snapshot()["a"].kind is Kind.PENDING


async def test_a_patient_reconciler_writes_nothing_before_its_table_is_initialised() -> None:
    table: Table[str, str] = Table("t", key=lambda row: row)
    writer = table.writer("test")
    done = writer.initializer("source")
    written: list[str] = []

    class Operations:
        def update(self, rows: Sequence[str]) -> None:
            written.extend(rows)

        def delete(self, rows: Sequence[str]) -> None: ...

        def prune(self, rows: Sequence[str]) -> None: ...

    reconciler = Reconciler("t", table=table, operations=Operations(), debounce=0, patient=True)
    task = asyncio.create_task(reconciler.run())
    writer.upsert("a")
    for _ in range(5):
        await asyncio.sleep(0)
    assert written == []
    done()
    await asyncio.wait_for(reconciler.wait_done(), 1)
    assert written == ["a"]
    task.cancel()
