"""Waits until the datapath serves an endpoint: programs attached, row written, policy computed."""

from __future__ import annotations

import asyncio
from typing import Any

from cilium.features.endpoint.rows import EndpointMapEntry
from cilium.state import Kind, RowStatus, Table
from cilium.tables.endpoints import Endpoint
from cilium.tables.types import IPAddress

HOOKS = ("ingress", "egress")


class Readiness:
    """Callers of `wait` are woken by the reconcilers' outcomes; one task per status table serves them all.

    `attachments` is the status of programs by (device, hook).
    """

    def __init__(
        self,
        *,
        entries: Table[IPAddress, EndpointMapEntry],
        status: Table[IPAddress, RowStatus[IPAddress]],
        attachments: Table[tuple[str, str], RowStatus[tuple[str, str]]],
    ) -> None:
        self._entries, self._status, self._attachments = entries, status, attachments
        self._wake = asyncio.Event()
        self._streams = (status.changes(wake=self._wake), attachments.changes(wake=self._wake))
        self._waiting: dict[Any, set[asyncio.Event]] = {}

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            for stream in self._streams:
                for change in stream.pop():
                    for event in self._waiting.get(change.key, ()):
                        event.set()

    async def wait(self, endpoint: Endpoint, seconds: float) -> None:
        """Raises TimeoutError with what the endpoint still lacks."""
        event = asyncio.Event()
        keys: list[Any] = [*endpoint.addresses, *((endpoint.ifname, hook) for hook in HOOKS)]
        for key in keys:
            self._waiting.setdefault(key, set()).add(event)
        try:
            async with asyncio.timeout(seconds):
                while self.lacks(endpoint):
                    await event.wait()
                    event.clear()
        except TimeoutError:
            raise TimeoutError(self.lacks(endpoint)) from None
        finally:
            for key in keys:
                self._waiting[key].discard(event)
                if not self._waiting[key]:
                    del self._waiting[key]

    def lacks(self, endpoint: Endpoint) -> str:
        """What keeps an endpoint from being served; empty when nothing does."""
        for hook in HOOKS:
            if reason := _undone(self._attachments.snapshot().get((endpoint.ifname, hook))):
                return f"no program at {endpoint.ifname} {hook}{reason}"
        for address in endpoint.addresses:
            entry = self._entries.snapshot().get(address)
            if entry is None:
                return f"{address} is not in the endpoint map yet"
            if entry.not_ready:
                return "no policy was computed for it: does the API server know its pod, and accept new identities?"
            if reason := _undone(self._status.snapshot().get(address)):
                return f"{address} is not in the datapath yet{reason}"
        return ""


def _undone(status: RowStatus[Any] | None) -> str:
    if status is not None and status.kind is Kind.DONE:
        return ""
    return f": {status.error}" if status is not None and status.error else ", still waiting"
