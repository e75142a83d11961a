"""The one loop that makes the world follow a table.

In: a table whose rows mirror objects of the world, key = the object's identity; three operations that write
to the world. Out: a status per row, retries, and removal of what nobody wants any more.

A round: wait for changes, then a moment (`debounce`) for more of them; then one batch of deletes and one of
updates, made of the new changes and of the retries that are due; then their outcomes into the status table.
Rounds do not overlap, and a retry carries what the table wants now, so an old outcome cannot overwrite a
newer wish.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar, cast

import structlog

from cilium.state.clock import Clock
from cilium.state.metrics import NoMetrics, ReconcilerMetrics
from cilium.state.status import Kind, Retries, RowStatus, Wish
from cilium.state.table import Table

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)

Errors = Mapping[Any, Exception | str]
"""What failed, by key; rows not named succeeded."""
Outcome = Errors | None | Awaitable[Errors | None]

RETRY_BATCHES = 64
"""At most so many calls for the retries of one round."""

log = structlog.get_logger("reconciler")


class Operations(Protocol[R_contra]):
    """How to write one kind of object to the world. Plain or async methods.

    Contract: idempotent; `delete` of what is absent is no error; per-row failures are returned by key, an
    exception means that the whole batch failed. What failed is tried again, with the same or a newer row.
    """

    def update(self, rows: Sequence[R_contra], /) -> Outcome:
        """Make every row so, whether it is there already or not."""

    def delete(self, rows: Sequence[R_contra], /) -> Outcome:
        """Remove every row (as it was last wanted)."""

    def prune(self, rows: Sequence[R_contra], /) -> Outcome:
        """Remove what bears our mark and is not among `rows`, which is the whole table; leave the rest
        alone.
        """


class Reconciler(Generic[K, R]):
    """`run()` is the task; `round()` does one round now, for tests and for shutdown.

    `debounce`, `retry_min`, `retry_max` and `refresh` are seconds. Every `refresh` seconds, prune is called
    again and every row is updated anew: that heals what others have broken. The first prune waits for the
    table to be initialised and comes after the updates of that round, so that a restart takes nothing away it
    still wants.

    `order` says what a round does first. "deletes": what a new row needs (an address, an id) is free when it
    comes. "updates": what replaces a row is there before the row goes.

    `patient`: nothing at all is written before the table is initialised. For objects that are there already
    when the process starts and that half a plan would change for the worse: until then they stay as the last
    process left them.
    """

    def __init__(
        self,
        name: str,
        *,
        table: Table[K, R],
        operations: Operations[R],
        order: Literal["deletes", "updates"] = "deletes",
        patient: bool = False,
        debounce: float = 0.001,
        retry_min: float = 0.1,
        retry_max: float = 30.0,
        refresh: float = 300.0,
        metrics: ReconcilerMetrics | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.status: Table[K, RowStatus[K]] = Table(f"{name}-status", key=lambda row: row.key)
        self.prune_error = ""
        """Why the last prune failed; empty when it did not."""
        self.pruned = False
        """A prune has succeeded since the start."""
        self._table = table
        self._operations = operations
        self._order = order
        self._patient = patient
        self._debounce = debounce
        self._refresh = refresh
        self._metrics = metrics or NoMetrics()
        self._clock = clock
        self._wake = asyncio.Event()
        self._changes = table.changes(wake=self._wake)
        self._writer = self.status.writer(f"reconciler {name}")
        self._retries: Retries[K, R] = Retries(minimum=retry_min, maximum=retry_max)
        self._prune_at: float | None = None
        self._prune_attempts = 0
        self._unmarked: Sequence[Wish[K, R]] = ()
        self._settled = -1
        self._round_done = asyncio.Event()

    # ------------------------------------------------------------------------------------------- for callers

    def observe(self, metrics: ReconcilerMetrics) -> None:
        """Tell `metrics` from here on: an application that counts need not hand its counters to every feature."""
        self._metrics = metrics

    async def wait_done(self, revision: int | None = None) -> None:
        """Until every row up to that revision of the table (default: the present one) is Done or Error."""
        wanted = self._table.revision if revision is None else revision
        while self._settled < wanted:
            self._round_done.clear()
            await self._round_done.wait()

    def errors(self) -> list[RowStatus[K]]:
        """The rows the world does not follow at the moment."""
        return [row for row in self.status.snapshot() if row.kind is Kind.ERROR]

    async def run(self) -> None:
        """The task: never returns."""
        if self._patient:
            await self._table.wait_initialized()
        while True:
            await self._wait()
            if self._debounce and self._wake.is_set():
                await self._sleep_until(self._time() + self._debounce)
            await self.round()

    async def round(self) -> None:
        """What is due now: changes, retries, and the prune."""
        revision, wishes = self._collect()
        steps = [("delete", True), ("update", False)]
        if self._order == "updates":
            steps.reverse()
        self._unmarked = wishes
        for operation, delete in steps:
            for batch in batches([wish for wish in wishes if wish.delete is delete]):
                await self._apply(operation, batch)
            self._unmarked = [wish for wish in self._unmarked if wish.delete is not delete]
        if self._prune_due():
            await self._prune()
        self._metrics.failing(self.name, len(self._retries))
        self._settled = max(self._settled, revision)
        if self._changes.seen_initialized:
            self._writer.ready()
        self._round_done.set()

    # --------------------------------------------------------------------------------------------- one round

    def _collect(self) -> tuple[int, list[Wish[K, R]]]:
        """The new wishes, which displace retries of the same keys, and the retries that are due."""
        wishes = []
        for change in self._changes.pop():
            self._retries.displace(change.key)
            row = change.new if change.new is not None else cast(R, change.old)
            wishes.append(Wish(change.key, row, change.new is None, change.revision))
        return self._changes.revision, wishes + self._retries.pop(self._time())

    async def _apply(self, operation: str, wishes: list[Wish[K, R]]) -> None:
        if not wishes:
            return
        errors, failure = await self._call(operation, [wish.row for wish in wishes])
        now = self._time()
        statuses: list[RowStatus[K]] = []
        gone: list[K] = []
        news: list[RowStatus[K]] = []
        for wish in wishes:
            error = failure or errors.get(wish.key)
            if error is not None:
                failed = RowStatus(wish.key, Kind.ERROR, wish.revision, describe(error), wish.attempts + 1)
                self._retries.add(Wish(wish.key, wish.row, wish.delete, wish.revision, failed.attempts), now)
                statuses.append(failed)
                if not wish.attempts:
                    news.append(failed)
            elif wish.delete:
                gone.append(wish.key)
            else:
                statuses.append(RowStatus(wish.key, Kind.DONE, wish.revision))
        self._writer.commit(statuses, gone)
        if news:  # once per row and failure: the retries are in the status and the metrics
            log.warning(
                "operation failed, will be retried",
                reconciler=self.name,
                operation=operation,
                rows=len(news),
                key=str(news[0].key),
                error=news[0].error,
            )

    async def _call(self, operation: str, rows: list[R]) -> tuple[Errors, Exception | None]:
        """Errors by key, and the exception if the whole batch failed."""
        method: Callable[[Sequence[R]], Outcome] = getattr(self._operations, operation)
        start = self._time()
        errors: Errors = {}
        failure: Exception | None = None
        try:
            outcome = method(rows)
            if inspect.isawaitable(outcome):
                self._mark_pending()
                outcome = await outcome
            errors = outcome or {}
        except Exception as error:
            failure = error
        self._metrics.operation(
            self.name,
            operation,
            rows=len(rows),
            failed=len(rows) if failure else len(errors),
            seconds=self._time() - start,
        )
        return errors, failure

    def _mark_pending(self) -> None:
        """Before the first await of a round: nobody could see it earlier, and plain operations never need it."""
        pending = [RowStatus(w.key, Kind.PENDING, w.revision, "", w.attempts) for w in self._unmarked]
        self._unmarked = ()
        self._writer.commit(pending)

    # ------------------------------------------------------------------------------------- prune and refresh

    def _prune_due(self) -> bool:
        if not self._changes.seen_initialized:
            return False
        return self._prune_at is None or self._prune_at <= self._time()

    async def _prune(self) -> None:
        """Prune; on success plan the next one, and (not the first time) update every row anew."""
        snapshot = self._table.snapshot()
        errors, failure = await self._call("prune", list(snapshot))
        error = failure or next(iter(errors.values()), None)
        now = self._time()
        if error is not None:
            self._prune_attempts += 1
            self._prune_at = now + self._retries.delay(self._prune_attempts)
            self.prune_error = describe(error)
            if self._prune_attempts == 1:
                log.warning("prune failed, will be retried", reconciler=self.name, error=self.prune_error)
            return
        again = self.pruned
        self._prune_at, self._prune_attempts = now + self._refresh, 0
        self.pruned, self.prune_error = True, ""
        if again:
            await self._update_again()

    async def _update_again(self) -> None:
        """Rows that are Done, and still what the table wants: the others have a round of their own coming."""
        wishes = []
        snapshot = self._table.snapshot()
        for status in self.status.snapshot():
            row = snapshot.get(status.key) if status.kind is Kind.DONE else None
            if row is not None and not self._changes.is_pending(status.key):
                wishes.append(Wish(status.key, row, False, status.revision))
        await self._apply("update", wishes)

    # -------------------------------------------------------------------------------------------------- time

    def _time(self) -> float:
        return (self._clock or asyncio.get_running_loop()).time()

    async def _wait(self) -> None:
        """Until something happened to the table, a retry is due, or the prune is."""
        due = [when for when in (self._retries.next_due(), self._prune_at) if when is not None]
        if not due:
            await self._wake.wait()
        elif min(due) > self._time():
            await self._sleep_until(min(due), self._wake)

    async def _sleep_until(self, when: float, wake: asyncio.Event | None = None) -> None:
        clock = self._clock or asyncio.get_running_loop()
        wake = wake or asyncio.Event()
        alarm = clock.call_at(when, wake.set)
        try:
            await wake.wait()
        finally:
            alarm.cancel()


def batches(wishes: list[Wish[K, R]]) -> Iterator[list[Wish[K, R]]]:
    """What is new as one batch, and what failed before as several: a row that makes a whole batch fail is alone after
    a few attempts, and the others are done.
    """
    fresh = [wish for wish in wishes if not wish.attempts]
    if fresh:
        yield fresh
    again = [wish for wish in wishes if wish.attempts]
    size = -(-len(again) // RETRY_BATCHES)
    for start in range(0, len(again), size or 1):
        yield again[start : start + size]


def describe(error: Exception | str) -> str:
    """An error as a status shows it: the message, or the type where there is none."""
    return error if isinstance(error, str) else str(error) or type(error).__name__
