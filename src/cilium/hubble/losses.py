"""How many events the kernel could not write: the map cilium_events_lost, summed over types and CPUs.

Comes in: the map's port. Goes out: a count that only grows, for the collector and for metrics.
"""

from __future__ import annotations

import numpy as np

from cilium.datapath.maps import BpfMap


class LossCounter:
    """`LossCounter(PinnedMap("cilium_events_lost"))`; a call reads the map."""

    def __init__(self, port: BpfMap) -> None:
        self._port = port
        self._types = np.arange(port.spec.max_entries, dtype=np.uint32)

    def __call__(self) -> int:
        values, _ = self._port.lookup(self._types)
        return int(values.sum(dtype=np.uint64))

    def by_type(self) -> dict[int, int]:
        """Per event type, those with losses only."""
        values, _ = self._port.lookup(self._types)
        return {kind: int(count.sum()) for kind, count in enumerate(values) if count.any()}
