"""Lets rows out once the kernel holds what they name.

In: planned rows, and the reconciler of the policy maps. Out: the same rows, after its round: an endpoint gets a policy
only when the policy is there, and a status speaks only of what is enforced.
"""

from __future__ import annotations

import asyncio
from typing import Any

from cilium.state import Reconciler, Table, Writer


class Release:
    """`gates`: planned table -> writer of the table that others read."""

    def __init__(
        self,
        *,
        rows: Table[int, Any],
        reconciler: Reconciler[int, Any],
        gates: list[tuple[Table[Any, Any], Writer[Any, Any]]],
    ) -> None:
        self._rows, self._reconciler = rows, reconciler
        self._wake = asyncio.Event()
        self._gates = [(table.changes(wake=self._wake), writer) for table, writer in gates]
        self._planned = [table for table, _ in gates]
        self._done = [writer.initializer("policy maps") for _, writer in gates]

    async def run(self) -> None:
        """The task: never returns. Starts when the plan is complete: half a plan would tear what is enforced."""
        for table in self._planned:
            await table.wait_initialized()
        while True:
            await self._wake.wait()
            # Popped before the revision is read: rows and plan are written in one step, rows first.
            changes = [(stream.pop(), writer) for stream, writer in self._gates]
            await self._reconciler.wait_done(self._rows.revision)
            for batch, writer in changes:
                writer.commit(
                    upserts=[change.new for change in batch if change.new is not None],
                    deletes=[change.key for change in batch if change.new is None],
                )
            for done in self._done:
                done()
            self._done = []
