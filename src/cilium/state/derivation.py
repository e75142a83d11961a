"""Tables computed from tables.

In: the changes and snapshots of input tables. Out: row changes, committed through the writers of output
tables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from cilium.state.changes import Change, RowChanges
from cilium.state.errors import DerivationError
from cilium.state.snapshot import Snapshot
from cilium.state.table import Table, Writer

# The tables of one derivation have different row types; which one hides behind a name only the compute
# function knows, so `Any` is the honest type here.
AnyTable = Table[Any, Any]
AnyWriter = Writer[Any, Any]


class View:
    """What a compute function sees, taken at one moment: the snapshots already contain the changes.

    Inputs that did not change have an empty list of changes.
    """

    __slots__ = ("changes", "snapshots")

    def __init__(
        self, *, changes: Mapping[str, list[Change[Any, Any]]], snapshots: Mapping[str, Snapshot[Any, Any]]
    ) -> None:
        self.changes = changes
        self.snapshots = snapshots


Compute = Callable[[View], Mapping[str, RowChanges[Any, Any]]]


class Derivation:
    """Runs `compute` once at the start, with every row as an insertion, and then when any input changed.

    `compute` is a pure function of its inputs over time: no clock, no I/O, no await; it may keep caches. It
    returns changes by output name; outputs without changes may be left out. An exception is a defect of the
    program: it ends the derivation as DerivationError, because what was read cannot be read again.

    The outputs are initialised once every input is, and everything that was in them then has been computed.
    """

    def __init__(
        self, name: str, *, inputs: Mapping[str, AnyTable], outputs: Mapping[str, AnyWriter], compute: Compute
    ) -> None:
        if not inputs or not outputs:
            raise DerivationError(f"derivation {name!r} needs at least one input and one output")
        self.name = name
        self._inputs = dict(inputs)
        self._outputs = dict(outputs)
        self._compute = compute
        self._wake = asyncio.Event()
        self._streams = {key: table.changes(wake=self._wake) for key, table in self._inputs.items()}
        self._done = [writer.initializer(f"derivation {name}") for writer in self._outputs.values()]
        self._started = False

    def step(self) -> bool:
        """Runs once, now; whether any output changed. Does not call `compute` when nothing happened."""
        changes = {key: stream.pop() for key, stream in self._streams.items()}
        changed = False
        if not self._started or any(changes.values()):
            self._started = True
            snapshots = {key: table.snapshot() for key, table in self._inputs.items()}
            changed = self._write(self._call(View(changes=changes, snapshots=snapshots)))
        if self._done and all(stream.seen_initialized for stream in self._streams.values()):
            for done in self._done:
                done()
            self._done = []
        return changed

    async def run(self) -> None:
        """The task: never returns."""
        while True:
            self.step()
            # One turn for the others, so that what several sources write in one turn is computed once.
            await asyncio.sleep(0)
            await self._wake.wait()

    def _call(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        try:
            result = self._compute(view)
        except Exception as error:
            inputs = ", ".join(f"{key} ({len(rows)} changes)" for key, rows in view.changes.items())
            raise DerivationError(f"derivation {self.name!r} failed on {inputs}: {error!r}") from error
        unknown = sorted(set(result) - set(self._outputs))
        if unknown:
            known = ", ".join(self._outputs)
            raise DerivationError(
                f"derivation {self.name!r} computed {', '.join(unknown)}, but its outputs are {known}"
            )
        return result

    def _write(self, result: Mapping[str, RowChanges[Any, Any]]) -> bool:
        changed = 0
        for output, changes in result.items():
            changed += self._outputs[output].commit(changes.upserts, changes.deletes)
        return changed > 0
