"""Programs are replaced after the maps are filled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cilium.app.refill import hold_programs
from cilium.state import Reconciler, Table
from cilium.state.cell import Cell


class Ops:
    """Tells what was written, in its order."""

    def __init__(self, name: str, told: list[str], written: asyncio.Event) -> None:
        self.name, self.told, self.written = name, told, written

    def update(self, rows: Sequence[str]) -> None:
        self.told.append(self.name)
        self.written.set()

    def delete(self, rows: Sequence[str]) -> None: ...

    def prune(self, rows: Sequence[str]) -> None: ...


class Node:
    """A reconciler that attaches and two that write maps."""

    def __init__(self) -> None:
        self.told: list[str] = []
        names = ("attachments", "policy-map", "ipcache")
        self.written = {name: asyncio.Event() for name in names}
        tables = {name: Table[str, str](name, key=lambda row: row) for name in names}
        self.writers = {name: table.writer("test") for name, table in tables.items()}
        for writer in self.writers.values():
            writer.upsert("row")
        self.cells = [
            Cell(
                name=name,
                reconcilers=(Reconciler(name, table=table, operations=Ops(name, self.told, self.written[name])),),
            )
            for name, table in tables.items()
        ]


async def stopped(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_programs_wait_for_the_maps() -> None:
    node = Node()
    tasks: list[asyncio.Task[None]] = []
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for cell in hold_programs(node.cells, done=lambda: node.told.append("full")):
            tasks += [group.create_task(reconciler.run()) for reconciler in cell.reconcilers]
            tasks += [group.create_task(run()) for _, run in cell.tasks]
        node.writers["attachments"].ready()
        node.writers["ipcache"].ready()
        await node.written["policy-map"].wait()
        await node.cells[2].reconcilers[0].status.wait_initialized()
        assert not {"attachments", "full"} & set(node.told), "the policies are not known in full"
        node.writers["policy-map"].ready()
        await node.written["attachments"].wait()
        await stopped(tasks)
    assert node.told[-2:] == ["full", "attachments"]
