"""Lets rows out once the kernel holds what they name.

In: planned rows, and the reconciler of the policy maps. Out: the same rows, after its round: an endpoint gets a policy
only when the policy is there, a status speaks only of what is enforced, and nobody is given an identity of which the
maps know nothing yet. An endpoint whose new policy does not fit into the maps keeps its old one until it does; one that
had none gets what there is: the rest of it is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from pyroaring import BitMap

from cilium.features.policy.rows import PolicyMembers
from cilium.state import Reconciler, Table, Writer
from cilium.state.status import Kind
from cilium.tables.endpoints import EndpointPolicy
from cilium.tables.types import PolicyId

Gate = tuple[Table[Any, Any], Writer[Any, Any]]
"""A planned table, and the writer of the table that others read."""


class Release:
    """`gates`: that of endpoint policies, that of identities (what the maps are about to forget is withdrawn at once),
    and the others. `present`: (ingress, egress) policies that endpoints have in the kernel, for those of whom this life
    has not said anything yet."""

    def __init__(
        self,
        *,
        rows: Table[int, Any],
        reconciler: Reconciler[int, Any],
        gates: list[Gate],
        present: Callable[[], Mapping[int, tuple[int, int]]],
    ) -> None:
        self._present = present
        endpoints, identities, *others = gates
        self._rows, self._reconciler = rows, reconciler
        self._wake = asyncio.Event()
        self._status = reconciler.status.changes(wake=self._wake)
        self._planned = [table for table, _ in gates]
        self._gates = [(table.changes(wake=self._wake), writer) for table, writer in others]
        self._identities, self._judged = identities[0].changes(wake=self._wake), identities[1]
        self._endpoints, self._given = endpoints[0].changes(wake=self._wake), endpoints[1]
        self._unjudged: dict[Any, Any] = {}
        """Identities that wait for rows in the maps."""
        self._waiting: dict[Any, EndpointPolicy] = {}
        """Planned rows of endpoints that keep an old policy."""
        self._done = [writer.initializer("policy maps") for _, writer in gates]

    async def run(self) -> None:
        """The task: never returns. Starts when the plan is complete: half a plan would tear what is enforced."""
        for table in self._planned:
            await table.wait_initialized()
        while True:
            await self._wake.wait()
            # Popped before the revision is read: rows and plan are written in one step, rows first.
            # Nothing is popped after the wait: it would clear the wake-up of what was planned meanwhile.
            self._status.pop()
            changes = [(stream.pop(), writer) for stream, writer in self._gates]
            endpoints, identities = self._endpoints.pop(), self._identities.pop()
            self._withdraw([change.key for change in identities if change.new is None])
            await self._reconciler.wait_done(self._rows.revision)
            self._let_endpoints(endpoints)
            self._let_identities([change.new for change in identities if change.new is not None])
            for batch, writer in changes:
                writer.commit(
                    upserts=[change.new for change in batch if change.new is not None],
                    deletes=[change.key for change in batch if change.new is None],
                )
            for done in self._done:
                done()
            self._done = []

    def _withdraw(self, keys: list[Any]) -> None:
        for key in keys:
            self._unjudged.pop(key, None)
        self._judged.commit(deletes=keys)

    def _let_identities(self, rows: list[Any]) -> None:
        """Those of whom the maps lack a row wait until there is room for it."""
        self._unjudged |= {row.id: row for row in rows}
        if not self._unjudged:
            return
        lacking = self._lacking()
        self._judged.commit(upserts=[row for number, row in self._unjudged.items() if number not in lacking])
        self._unjudged = {number: row for number, row in self._unjudged.items() if number in lacking}

    def _lacking(self) -> BitMap:
        """Identities of rows that are not in the kernel."""
        rows = self._rows.snapshot()
        failed = (rows.get(row.key) for row in self._reconciler.status.snapshot() if row.kind is Kind.ERROR)
        return BitMap().union(*(row.identities for row in failed if isinstance(row, PolicyMembers)))

    def _let_endpoints(self, changes: list[Any]) -> None:
        planned = self._waiting | {change.key: change.new for change in changes if change.new is not None}
        gone = [change.key for change in changes if change.new is None]
        for key in gone:
            planned.pop(key, None)
        incomplete = self._incomplete() if planned else frozenset()
        before = self._before(planned) if incomplete else {}
        rows = {key: held(row, before.get(key), incomplete.__contains__) for key, row in planned.items()}
        self._waiting = {key: planned[key] for key, row in rows.items() if row != planned[key]}
        self._given.commit(upserts=list(rows.values()), deletes=gone)

    def _before(self, planned: Mapping[Any, EndpointPolicy]) -> dict[Any, EndpointPolicy]:
        """What these endpoints have: as this life gave it, or as the last one left it."""
        given = self._given.table.snapshot()
        found = {key: row for key in planned if (row := given.get(key)) is not None}
        left = self._present() if len(found) < len(planned) else {}
        for key, row in planned.items():
            if key not in found and int(key) in left:
                ingress, egress = (PolicyId(number) for number in left[int(key)])
                found[key] = msgspec.structs.replace(row, ingress=ingress, egress=egress)
        return found

    def _incomplete(self) -> frozenset[int]:
        """Policies of which the kernel does not hold every entry."""
        return frozenset(
            number for row in self._reconciler.status.snapshot() if row.kind is Kind.ERROR and (number := row.key >> 32)
        )


def held(row: EndpointPolicy, before: EndpointPolicy | None, incomplete: Callable[[int], bool]) -> EndpointPolicy:
    """The row with the old policy in a direction whose new one is incomplete, unless there was none."""
    if before is None:
        return row
    kept = {
        direction: old
        for direction in ("ingress", "egress")
        if (old := getattr(before, direction))
        and old != getattr(row, direction)
        and incomplete(getattr(row, direction))
    }
    return msgspec.structs.replace(row, revision=before.revision, **kept) if kept else row
