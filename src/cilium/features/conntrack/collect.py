"""Removes what is dead from cilium_ct and cilium_snat.

The datapath treats an expired entry as none; collecting it makes room before the LRU has to take a living one, and
keeps a NAT port from staying taken. In: the maps, the kernel's monotonic clock. Out: what was removed, and how long to
wait until the next round: the more dead there were, the sooner.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import IPPROTO_TCP

import msgspec
import numpy as np

from cilium.datapath.generated import NatFlags
from cilium.datapath.maps import Array, BpfMap

MIN_INTERVAL, FIRST_INTERVAL, MAX_INTERVAL = 10.0, 30.0, 1800.0
"""Seconds. The longest is far below upstream's 12 h: a round costs milliseconds and dead NAT ports are worth them."""

CROWDED = 0.75
"""Share of a map beyond which the kernel may soon take living entries: it frees them in batches, before the last is
used."""


class Lifetimes(msgspec.Struct, frozen=True):
    """Seconds of silence after which a connection is dead."""

    tcp: float
    tcp_syn: float
    tcp_fin: float
    other: float


class Collected(msgspec.Struct, frozen=True):
    """What one round over one map found."""

    seen: int = 0
    deleted: int = 0

    def __add__(self, other: Collected) -> Collected:
        return Collected(self.seen + other.seen, self.deleted + other.deleted)


def collect(
    port: BpfMap, dead: Callable[[Array, Array], Array], *, last: Callable[[Array], None] = lambda _: None
) -> Collected:
    """Deletes every element for which `dead(keys, values)` is true, part by part; `last` gets the values deleted."""
    total = Collected()
    doomed: list[tuple[Array, Array]] = []
    for keys, values in port.chunks():
        mask = dead(keys, values)
        if mask.any():
            doomed.append((keys[mask], values[mask]))
        total += Collected(len(keys), int(mask.sum()))
    for keys, values in doomed:
        port.delete(keys)
        last(values)
    return total


def expired(now: int) -> Callable[[Array, Array], Array]:
    """Of cilium_ct; `now` in ns of CLOCK_MONOTONIC."""

    def dead(keys: Array, values: Array) -> Array:
        return np.asarray(values["expires"] < now)

    return dead


def idle(now: int, lifetimes: Lifetimes) -> Callable[[Array, Array], Array]:
    """Of cilium_snat: silent for longer than a connection of its protocol and state lives, as the datapath sees it."""
    tcp, syn, fin, other = (int(seconds * 1e9) for seconds in msgspec.structs.astuple(lifetimes))

    def dead(keys: Array, values: Array) -> Array:
        flags = values["flags"]
        established = np.where(flags & NatFlags.REPLIED, tcp, syn)
        of_tcp = np.where(flags & NatFlags.CLOSED, fin, established)
        lifetime = np.where(keys["protocol"] == IPPROTO_TCP, of_tcp, other).astype(np.int64)
        return np.asarray(values["used"].astype(np.int64) + lifetime < now)

    return dead


def next_interval(before: float, collected: Collected, *, crowded: bool = False) -> float:
    """Half as long again after a round that found little, half as long after one that found much."""
    if crowded:
        return MIN_INTERVAL
    share = collected.deleted / collected.seen if collected.seen else 0.0
    if share > 0.25:
        return max(MIN_INTERVAL, before / 2)
    if share < 0.05:
        return min(MAX_INTERVAL, before * 1.5)
    return before
