"""Wires the collection of dead connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import structlog

from cilium.datapath.errors import DatapathError
from cilium.datapath.maps import Array, BpfMap
from cilium.features.conntrack.collect import (
    CROWDED,
    FIRST_INTERVAL,
    Collected,
    Lifetimes,
    collect,
    expired,
    idle,
    next_interval,
)
from cilium.features.conntrack.counters import add_leftovers, uncounted
from cilium.state.cell import Cell

log = structlog.get_logger("conntrack")


def build(
    *,
    connections: BpfMap,
    nat: BpfMap,
    counters: BpfMap,
    capacities: Mapping[str, int],
    interval: float,
    lifetimes: Lifetimes,
) -> Cell:
    """`interval`: seconds; 0 adapts. `capacities`: entries by map. `counters`: cilium_policy_counters."""
    crowd = Crowd(capacities)

    def last(entries: Array) -> None:
        add_leftovers(counters, uncounted(entries))

    async def run() -> None:
        pause = interval or FIRST_INTERVAL
        while True:
            await asyncio.sleep(pause)
            now = time.monotonic_ns()
            try:
                found = collect(connections, expired(now), last=last)
                mapped = collect(nat, idle(now, lifetimes))
            except DatapathError as error:  # dead entries do no harm until the next round
                log.warning("not collected", error=str(error))
                continue
            if found.deleted or mapped.deleted:
                log.debug("collected", connections=found.deleted, mappings=mapped.deleted)
            crowded = [crowd.note(port.spec.name, part) for port, part in ((connections, found), (nat, mapped))]
            pause = interval or next_interval(pause, found + mapped, crowded=any(crowded))

    return Cell(name="conntrack", tasks=(("conntrack collection", run),))


class Crowd:
    """Tells once when a map gets crowded, and once when it no longer is."""

    def __init__(self, capacities: Mapping[str, int]) -> None:
        self._capacities = capacities
        self._crowded: set[str] = set()

    def note(self, name: str, found: Collected) -> bool:
        left, capacity = found.seen - found.deleted, self._capacities[name]
        crowded = left > CROWDED * capacity
        if crowded and name not in self._crowded:
            self._crowded.add(name)
            log.warning(
                "map is crowded: the kernel makes room by forgetting the oldest connections; a larger map needs a "
                "larger setting (bpf.ctTcpMax, bpf.ctAnyMax, bpf.natMax)",
                map=name,
                entries=left,
                capacity=capacity,
            )
        elif not crowded and name in self._crowded:
            self._crowded.remove(name)
            log.info("map is no longer crowded", map=name, entries=left)
        return crowded
