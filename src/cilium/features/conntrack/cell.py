"""Wires the collection of dead connections."""

from __future__ import annotations

import asyncio
import time

import structlog

from cilium.datapath.errors import DatapathError
from cilium.datapath.maps import BpfMap
from cilium.features.conntrack.collect import FIRST_INTERVAL, collect, expired, idle, next_interval
from cilium.state.cell import Cell

log = structlog.get_logger("conntrack")


def build(*, connections: BpfMap, nat: BpfMap, interval: float, tcp: float, other: float) -> Cell:
    """`interval` 0 adapts; all in seconds."""

    async def run() -> None:
        pause = interval or FIRST_INTERVAL
        while True:
            await asyncio.sleep(pause)
            now = time.monotonic_ns()
            try:
                found = collect(connections, expired(now))
                mapped = collect(nat, idle(now, tcp=tcp, other=other))
            except DatapathError as error:  # dead entries do no harm until the next round
                log.warning("not collected", error=str(error))
                continue
            if found.deleted or mapped.deleted:
                log.debug("collected", connections=found.deleted, mappings=mapped.deleted)
            pause = interval or next_interval(pause, found + mapped)

    return Cell(name="conntrack", tasks=(("conntrack collection", run),))
