"""A world for reconcilers: a dict, with a switch for faults and a log of calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from cilium.state import Table


class Row(msgspec.Struct, frozen=True):
    name: str
    value: int = 0


class World:
    """Keys in `refuse` fail alone, `poison` fails its whole batch, `down` every batch."""

    def __init__(self) -> None:
        self.things: dict[str, int] = {}
        self.refuse: set[str] = set()
        self.poison = ""
        self.down: Exception | None = None
        self.calls: list[tuple[str, list[str]]] = []

    def update(self, rows: Sequence[Row]) -> dict[str, str]:
        self._called("update", rows)
        for row in rows:
            if row.name not in self.refuse:
                self.things[row.name] = row.value
        return self._errors(rows)

    def delete(self, rows: Sequence[Row]) -> dict[str, str]:
        self._called("delete", rows)
        for row in rows:
            if row.name not in self.refuse:
                self.things.pop(row.name, None)
        return self._errors(rows)

    def prune(self, rows: Sequence[Row]) -> None:
        self._called("prune", rows)
        wanted = {row.name for row in rows}
        for name in self.things.keys() - wanted:
            del self.things[name]

    def names(self, operation: str) -> list[list[str]]:
        return [names for called, names in self.calls if called == operation]

    def _called(self, operation: str, rows: Sequence[Row]) -> None:
        self.calls.append((operation, sorted(row.name for row in rows)))
        if self.down is not None:
            raise self.down
        if operation != "prune" and any(row.name == self.poison for row in rows):
            raise ValueError(f"{self.poison} is poison")

    def _errors(self, rows: Sequence[Row]) -> dict[str, str]:
        return {row.name: f"{row.name} refused" for row in rows if row.name in self.refuse}


class SlowWorld:
    """The same with coroutines that wait for `gate`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()

    async def update(self, rows: Sequence[Row]) -> dict[str, str]:
        self.entered.set()
        await self.gate.wait()
        return self.world.update(rows)

    async def delete(self, rows: Sequence[Row]) -> dict[str, str]:
        return self.world.delete(rows)

    async def prune(self, rows: Sequence[Row]) -> None:
        self.world.prune(rows)


def make_table() -> Table[str, Row]:
    return Table("things", key=lambda row: row.name)
