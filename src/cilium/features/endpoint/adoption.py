"""Endpoints that came under a policy a moment ago.

Connections are tracked only where a policy is enforced, so those from before a policy are unknown to the datapath. For
a while it takes them over: a packet in the middle of one is judged in the direction in which it was most likely opened
(ENDPOINT_ADOPTING). Forever it must not, or a pod that may send nothing could send whatever looks like an answer.

In: rows about to be written, and what the map holds. Out: which of them are adopting, and when they cease to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from cilium.datapath.generated import EndpointFlags
from cilium.features.endpoint.rows import EndpointMapEntry
from cilium.tables.types import IPAddress

ADOPTION = 60.0
"""Seconds: a TCP sender whose packets were lost meanwhile has tried several times (RFC 6298)."""


class Adoption:
    """Times are of `clock`, in seconds."""

    def __init__(self, *, seconds: float = ADOPTION, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._until: dict[IPAddress, float] = {}
        self._rows: dict[IPAddress, EndpointMapEntry] = {}

    def mark(self, rows: Sequence[EndpointMapEntry], values: Any, found: Any) -> list[bool]:
        """Whether each row is adopting; `values` and `found` are what the map holds for them now."""
        now, marked = self._clock(), []
        for row, value, present in zip(rows, values, found, strict=True):
            # The node was there before it had a row; a pod had no connections before.
            same = row.host or (present and value["id"] == row.endpoint and value["ifindex"] == row.ifindex)
            if same and _begins(row, value) and row.address not in self._until:
                self._until[row.address] = now + self._seconds
            adopting = bool(same) and self._until.get(row.address, 0.0) > now
            if adopting:
                self._rows[row.address] = row
            else:
                self.forget([row])
            marked.append(adopting)
        return marked

    def forget(self, rows: Sequence[EndpointMapEntry]) -> None:
        for row in rows:
            self._until.pop(row.address, None)
            self._rows.pop(row.address, None)

    def next_end(self) -> float | None:
        """Seconds until the first of them ceases to adopt; None if nobody does."""
        return max(0.0, min(self._until.values()) - self._clock()) if self._until else None

    def ended(self) -> list[EndpointMapEntry]:
        """Rows to be written anew, without the mark."""
        now = self._clock()
        return [self._rows[address] for address, until in self._until.items() if until <= now]


def _begins(row: EndpointMapEntry, value: Any) -> bool:
    """The map's row was served without a policy in a direction that has one now, or the last agent had marked it."""
    if row.not_ready or value["flags"] & EndpointFlags.NOT_READY:
        return False
    ingress = bool(row.ingress_policy) and not value["ingress_policy"]
    egress = bool(row.egress_policy) and not value["egress_policy"]
    return ingress or egress or bool(value["flags"] & EndpointFlags.ADOPTING)
