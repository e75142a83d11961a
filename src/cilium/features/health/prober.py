"""Asks every node whether it answers.

In: `health-targets`. Out: `node-health`. Each target has its own time: new ones are asked at once, those that do not
answer soon again, all others once per interval; the times are spread by up to a tenth so that nodes that were started
together are not asked together for ever. A node's own addresses are asked as well: they tell a broken responder from
a broken path.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from cilium.features.health.compute import delay
from cilium.features.health.responder import PATH
from cilium.features.health.rows import HealthTarget, NodeHealth
from cilium.state import Table, Writer
from cilium.tables.types import IPAddress

Key = tuple[str, str]
Ask = Callable[[IPAddress], Coroutine[Any, Any, None]]
"""Returns when the address answered well. Raises OSError (TimeoutError too) saying why it did not."""

AT_ONCE = 32
"""Questions under way at a time."""


class Prober:
    """`run` is the task."""

    def __init__(
        self,
        *,
        targets: Table[Key, HealthTarget],
        writer: Writer[Key, NodeHealth],
        ask: Ask,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self._targets, self._writer, self._ask, self._spread = targets, writer, ask, spread
        self._changes = targets.changes()
        self._due: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}

    async def run(self) -> None:
        """Never returns."""
        self._writer.ready()
        while True:
            self.follow()
            await self.round()
            await self._wait()

    def follow(self) -> None:
        """Takes in which targets came and went."""
        gone = []
        for change in self._changes.pop():
            if change.new is None:
                gone.append(change.key)
                self._due.pop(change.key, None)
                self._failures.pop(change.key, None)
            elif change.old is None or change.old != change.new:
                self._due[change.key] = 0.0
        if gone:
            self._writer.commit(deletes=gone)

    async def round(self) -> None:
        """Asks whom it is time to ask. Each answer is written when it comes."""
        snapshot, now = self._targets.snapshot(), time.monotonic()
        due = [snapshot[key] for key, when in self._due.items() if when <= now and key in snapshot]
        if not due:
            return
        gate = asyncio.Semaphore(AT_ONCE)
        nodes = len({target.node for target in snapshot})
        await asyncio.gather(*(self._one(target, gate, nodes) for target in due))

    async def _one(self, target: HealthTarget, gate: asyncio.Semaphore, nodes: int) -> None:
        row = await self._question(target, gate)
        if target.key in self._targets.snapshot():
            self._writer.upsert(row)
            settled = self._failures.get(row.key) == 0
            self._failures[row.key] = row.failures
            seconds = delay(nodes, failures=row.failures, settled=settled)
            self._due[row.key] = time.monotonic() + seconds * (1.0 + 0.1 * self._spread())

    async def _question(self, target: HealthTarget, gate: asyncio.Semaphore) -> NodeHealth:
        async with gate:
            start, error = time.monotonic(), ""
            try:
                await self._ask(target.address)
            except OSError as failure:
                error = failure.strerror or str(failure) or type(failure).__name__
            took = time.monotonic() - start
        return NodeHealth(
            node=target.node,
            address=target.address,
            kind=target.kind,
            ok=not error,
            rtt=round(took, 6),
            error=error,
            last=datetime.now(UTC).isoformat(timespec="seconds"),
            failures=self._failures.get(target.key, 0) + 1 if error else 0,
        )

    async def _wait(self) -> None:
        """Until a target changes or the next question is due."""
        seconds = max(0.0, min(self._due.values()) - time.monotonic()) if self._due else None
        try:
            async with asyncio.timeout(seconds):
                await self._changes.wait()
        except TimeoutError:
            pass


class HttpAsk:
    """GET /hello over TCP. `patience` is in seconds."""

    def __init__(self, *, port: int, patience: float = 3.0) -> None:
        self._port, self._patience = port, patience

    async def __call__(self, address: IPAddress) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._get(address)
        except TimeoutError:
            raise TimeoutError(f"no answer within {self._patience:g} s") from None

    async def _get(self, address: IPAddress) -> None:
        reader, writer = await asyncio.open_connection(str(address), self._port)
        host = f"[{address}]" if address.version == 6 else str(address)
        try:
            writer.write(f"GET {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            line = await reader.readline()
        finally:
            writer.close()
        words = line.split(b" ", 2)
        if len(words) < 2 or words[1] != b"200":
            raise OSError(f"answered {line.decode(errors='replace').strip() or 'nothing'!r}, not 200")
