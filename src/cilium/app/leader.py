"""One active operator: a Lease of coordination.k8s.io, renewed by its holder and taken over when it runs out.

Whoever waits measures by its own clock how long the Lease has not moved: clocks of different machines need not agree.
Source: Kubernetes' Lease API; the numbers are upstream's defaults (15 s, 10 s, 2 s).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

log = structlog.get_logger("leader")


class LeaseLostError(Exception):
    """Somebody else may lead now: what only a leader does must end, for its view may be old."""


class Leases(Protocol):
    """Access to one Lease."""

    async def read(self) -> dict[str, Any] | None: ...

    async def write(self, lease: dict[str, Any] | None, spec: dict[str, Any]) -> bool:
        """Creates (lease None) or replaces at the lease's resourceVersion; False if somebody was faster."""


class Leader:
    """`acquire` returns when we lead; `hold` keeps it and raises LeaseLostError when it is gone; `lead` does both for
    ever."""

    def __init__(
        self, *, leases: Leases, identity: str, duration: float, renew_deadline: float, retry_period: float
    ) -> None:
        self._leases, self._identity = leases, identity
        self._duration, self._deadline, self._period = duration, renew_deadline, retry_period
        self._seen: tuple[str, float] = ("", 0.0)
        self.holder = ""

    async def lead(self, work: Callable[[asyncio.TaskGroup], Awaitable[None]]) -> None:
        """Whenever we lead, has `work` start its tasks; they end with the Lease, and begin anew with the next."""

        async def term() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.hold(), name="leader")
                await work(tasks)

        while True:
            await self.acquire()
            try:
                # In a task of its own: a group that failed leaves a request for cancellation with the task that waited
                # for it (Python 3.11), and every time-out in that task would look like its end.
                await asyncio.create_task(term(), name="leadership")
            except* LeaseLostError as lost:
                log.warning("no longer leader", error=str(lost.exceptions[0]))

    async def acquire(self) -> None:
        """Until the Lease is ours, however long the API server is away."""
        told = False
        while True:
            try:
                if await self._try():
                    break
            except Exception as error:
                if not told:  # once per outage
                    log.warning("lease not acquired", error=str(error))
                told = True
            await asyncio.sleep(self._period)
        log.info("became leader", identity=self._identity)

    async def hold(self) -> None:
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(self._period)
            try:
                async with asyncio.timeout(renewed + self._deadline - time.monotonic()):
                    mine = await self._try()
                if mine:
                    renewed = time.monotonic()
                elif self.holder != self._identity:
                    raise LeaseLostError(f"the lease is held by {self.holder} now")
            except LeaseLostError:
                raise
            except Exception as error:
                log.warning("lease not renewed", error=str(error) or type(error).__name__)
            if time.monotonic() - renewed >= self._deadline:
                raise LeaseLostError(f"the lease could not be renewed for {self._deadline:.0f} s")

    async def _try(self) -> bool:
        lease = await self._leases.read()
        spec = (lease or {}).get("spec", {})
        self.holder = spec.get("holderIdentity") or ""
        if lease is not None and self.holder not in {"", self._identity} and not self._expired(spec):
            return False
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = self.holder == self._identity
        wrote = await self._leases.write(
            lease,
            {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(self._duration),
                "acquireTime": spec.get("acquireTime", now) if ours else now,
                "renewTime": now,
                "leaseTransitions": spec.get("leaseTransitions", 0) + (0 if ours or lease is None else 1),
            },
        )
        if wrote:
            self.holder = self._identity
        return wrote

    def _expired(self, spec: dict[str, Any]) -> bool:
        mark = f"{spec.get('holderIdentity')}/{spec.get('renewTime')}"
        if mark != self._seen[0]:
            self._seen = (mark, time.monotonic())
        return time.monotonic() - self._seen[1] > float(spec.get("leaseDurationSeconds", self._duration))
