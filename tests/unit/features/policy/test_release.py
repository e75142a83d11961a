"""What is planned while the kernel is still being written to goes out, too: no wake-up is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from cilium.features.policy.release import Release
from cilium.state import Table
from cilium.state.status import Kind, RowStatus


class Row(msgspec.Struct, frozen=True):
    key: int


class SlowKernel:
    """A reconciler whose round ends when the test says so; ending it writes statuses, as a real one does."""

    def __init__(self) -> None:
        self.status: Table[int, RowStatus[int]] = Table("status", key=lambda row: row.key)
        self._writer = self.status.writer("kernel")
        self.asked, self.done = asyncio.Event(), asyncio.Event()
        self._rounds = 0

    async def wait_done(self, revision: int) -> None:
        self.asked.set()
        await self.done.wait()
        self._rounds += 1
        self._writer.upsert(RowStatus(1, Kind.DONE, min(self._rounds, 2)))


def table(name: str) -> tuple[Table[Any, Any], Any]:
    made: Table[Any, Any] = Table(name, key=lambda row: row.key)
    return made, made.writer("planner")


async def test_what_is_planned_while_the_kernel_is_written_goes_out() -> None:
    kernel = SlowKernel()
    rows, _ = table("rows")
    (planned, plan), (given, give) = table("planned-status"), table("status")
    (endpoints, endpoint), (let, let_writer) = table("planned-endpoints"), table("endpoints")
    (identities, identity), (_, judge) = table("planned-identities"), table("identities")
    release = Release(
        rows=rows,
        reconciler=kernel,  # type: ignore[arg-type]  # what Release asks of it is there
        gates=[(endpoints, let_writer), (identities, judge), (planned, give)],
        present=dict,
    )
    plan.ready()
    endpoint.ready()
    identity.ready()
    task = asyncio.create_task(release.run())
    try:
        plan.upsert(Row(1))
        await asyncio.wait_for(kernel.asked.wait(), 5)
        plan.upsert(Row(2))  # the round that is under way has taken Row 1
        kernel.done.set()
        changes = given.changes()
        while len(given.snapshot()) < 2:
            await asyncio.wait_for(changes.wait(), 5)
            changes.pop()
    finally:
        task.cancel()
    assert {row.key for row in given.snapshot()} == {1, 2}
    assert let.initialized
