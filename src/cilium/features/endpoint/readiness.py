"""Waits until the datapath holds an endpoint, with a policy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cilium.features.endpoint.rows import EndpointMapEntry
from cilium.state import Kind, RowStatus, Table
from cilium.tables.types import IPAddress


class Readiness:
    """Callers of `wait` are woken by the reconciler's outcomes; one task serves them all."""

    def __init__(
        self,
        *,
        entries: Table[IPAddress, EndpointMapEntry],
        status: Table[IPAddress, RowStatus[IPAddress]],
    ) -> None:
        self._entries, self._status = entries, status
        self._changes = status.changes()
        self._waiting: dict[IPAddress, set[asyncio.Event]] = {}

    async def run(self) -> None:
        while True:
            await self._changes.wait()
            for change in self._changes.pop():
                for event in self._waiting.get(change.key, ()):
                    event.set()

    async def wait(self, addresses: Sequence[IPAddress], seconds: float) -> None:
        """Raises TimeoutError with what the first address still lacks."""
        for address in addresses:
            event = asyncio.Event()
            self._waiting.setdefault(address, set()).add(event)
            try:
                async with asyncio.timeout(seconds):
                    while self.lacks(address):
                        await event.wait()
                        event.clear()
            except TimeoutError:
                raise TimeoutError(self.lacks(address)) from None
            finally:
                self._waiting[address].discard(event)
                if not self._waiting[address]:
                    del self._waiting[address]

    def lacks(self, address: IPAddress) -> str:
        """What keeps an address from being served; empty when nothing does."""
        entry = self._entries.snapshot().get(address)
        if entry is None:
            return "the endpoint is not in the endpoint map yet"
        if entry.not_ready:
            return "no policy was computed for it: is its pod known to the API server, and can identities be created?"
        status = self._status.snapshot().get(address)
        if status is None or status.kind is not Kind.DONE:
            return f"the datapath does not have it yet{': ' + status.error if status and status.error else ''}"
        return ""
