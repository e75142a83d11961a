"""cilium_runtime: what the agent changes while programs run."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from cilium.datapath.generated import RUNTIME, RuntimeFlags
from cilium.datapath.maps import BpfMap

_KEY = np.zeros(1, dtype=np.uint32)


class Epoch(Protocol):
    """The half of `Runtime` that features need whose rows decide about connections."""

    def advance(self) -> None:
        """Has every tracked connection judged anew at its next packet."""


class Runtime:
    """The one writer of the entry; reads it first, so that a restart goes on where the last agent was."""

    def __init__(self, port: BpfMap) -> None:
        self._port = port
        values, found = port.lookup(_KEY)
        self._value = values if found[0] else np.zeros(1, dtype=RUNTIME)
        if not self.epoch:  # 0 marks no epoch: a revoked connection has it
            self._value["policy_epoch"] = 1

    @property
    def epoch(self) -> int:
        return int(self._value["policy_epoch"][0])

    def advance(self) -> None:
        """See Epoch. 0 is skipped: it marks no epoch."""
        self._value["policy_epoch"] = self.epoch % 0xFFFF_FFFF + 1
        self._port.update(_KEY, self._value)

    def configure(self, *, aggregation: float, received: bool, events: bool) -> None:
        """`aggregation`: seconds between two events of one direction of one connection, 0: every packet is told.
        `received`: what sockets receive is told, too, if there is no aggregation.
        """
        self._value["aggregation"] = int(aggregation * 1e9)
        flags = RuntimeFlags(0) if events else RuntimeFlags.EVENTS_OFF
        self._value["flags"] = flags if received else flags | RuntimeFlags.HIDE_RECEIVED
        self._port.update(_KEY, self._value)
