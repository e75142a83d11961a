"""What a row of `frontends` says, in the form of the maps: keys, records, flags, turns.

In: rows. Out: numpy records, and bytes of single keys. Nothing here remembers anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat
from math import gcd

import numpy as np

from cilium.datapath.addresses import address_bytes, addresses_array, prefix_bits
from cilium.datapath.generated import (
    AFFINITY_MATCH_KEY,
    BACKEND,
    SERVICE_KEY,
    SKIP_KEY,
    SOURCE_RANGE_KEY,
    ServiceFlags,
    ServiceScope,
)
from cilium.datapath.maps import Array
from cilium.tables.services import Algorithm, Forwarding, Frontend, Scope

Ids = tuple[int, ...]
NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}
SCOPES = {scope: ServiceScope[scope.name] for scope in Scope}
SLOTS_EACH, SLOTS_LEAST = 16, 128
"""Weights are kept exactly as long as the slots of a service are not more than so many for each of its backends, or in
all; what asks for more is rounded, and everybody has one at least.
"""


def service_keys(rows: Sequence[Frontend]) -> Array:
    keys = np.zeros(len(rows), dtype=SERVICE_KEY)
    keys["address"] = addresses_array(row.address for row in rows)
    keys["port"] = [row.port for row in rows]
    keys["protocol"] = [NUMBERS[row.protocol] for row in rows]
    keys["scope"] = [SCOPES[row.scope] for row in rows]
    return keys


def backend_records(rows: Sequence[Frontend]) -> Array:
    """The backends of all rows, one after the other."""
    flat = [(backend, row.protocol) for row in rows for backend in row.backends]
    records = np.zeros(len(flat), dtype=BACKEND)
    records["address"] = addresses_array(backend.address for backend, _ in flat)
    records["port"] = [backend.port for backend, _ in flat]
    records["protocol"] = [NUMBERS[protocol] for _, protocol in flat]
    records["state"] = [backend.terminating for backend, _ in flat]
    return records


def identity(records: Array, words: list[bytes]) -> list[bytes]:
    """Who a backend is, whatever its attributes say, out of records and their bytes, which serve where they can."""
    odd = np.flatnonzero(records["state"])
    if not len(odd):
        return words
    bare = records[odd]
    bare["state"] = 0
    names = list(words)
    for place, name in zip(odd.tolist(), raw(bare), strict=True):
        names[place] = name
    return names


def raw(records: Array) -> list[bytes]:
    size = records.dtype.itemsize
    data = records.tobytes()
    return [data[at : at + size] for at in range(0, len(data), size)]


# ------------------------------------------------------------------------------------------------------------- turns


def slots_of(row: Frontend, ids: Ids) -> Ids:
    """A backend as often as it has turns; `ids`: of all backends of the row."""
    turns = turns_of(row)
    if all(turn == 1 for turn in turns):
        return ids
    return tuple(chain.from_iterable(map(repeat, ids, turns)))


def turns_of(row: Frontend) -> list[int]:
    """How often each backend gets a connection, next to the others: its weight in the smallest numbers. 0: never."""
    active = any(end.weight and not end.terminating for end in row.backends)
    weights = [0 if active and end.terminating else end.weight for end in row.backends]
    return reduced(weights)


def reduced(weights: list[int]) -> list[int]:
    divisor, most, total = gcd(*weights), max(SLOTS_EACH * len(weights), SLOTS_LEAST), sum(weights)
    if divisor and total // divisor > most:
        weights = [max(1, weight * most // total) if weight else 0 for weight in weights]
        divisor = gcd(*weights)
    return weights if divisor < 2 else [weight // divisor for weight in weights]


# ------------------------------------------------------------------------------------------------------------- flags


def flags_of(row: Frontend, serving: bool) -> int:
    """Bits of enum service_flags; `serving`: somebody has slots."""
    said = (
        (ServiceFlags.NODE_PORT, row.address.is_unspecified),
        (ServiceFlags.SOURCE_CHECK, row.source_ranges),
        (ServiceFlags.SOURCE_DENY, row.source_ranges and row.source_deny),
        (ServiceFlags.MAGLEV, serving and row.algorithm is Algorithm.MAGLEV and row.scope is Scope.EXTERNAL),
        (ServiceFlags.DSR, row.forwarding is Forwarding.DSR),
        (ServiceFlags.LOCAL, row.local),
        (ServiceFlags.REDIRECT, row.skip_netns or row.kind == "LocalRedirect"),
        (ServiceFlags.HOST_PORT, row.kind == "HostPort"),
    )
    return sum(flag.value for flag, true in said if true)


# ------------------------------------------------------------------------------------------------- keys that are lists

Place = tuple[bytes, int, int]
"""Address, port and protocol of a service, whoever asks."""


def match_keys(number: int, slots: Ids) -> Array:
    """Of cilium_lb_affinity_match."""
    keys = np.zeros(len(set(slots)), dtype=AFFINITY_MATCH_KEY)
    keys["service"], keys["backend"] = number, sorted(set(slots))
    return keys


def range_keys(number: int, row: Frontend) -> Array:
    """Of cilium_lb_source_ranges; of the row's family, since others cannot ask."""
    ranges = [network for network in row.source_ranges if network.version == row.address.version]
    keys = np.zeros(len(ranges), dtype=SOURCE_RANGE_KEY)
    keys["prefixlen"] = [32 + prefix_bits(network) for network in ranges]
    keys["service"] = number
    keys["address"] = addresses_array(network.network_address for network in ranges)
    return keys


def skip_keys(row: Frontend) -> Array:
    """Of cilium_lb_skip."""
    keys = np.zeros(len(row.skip_netns), dtype=SKIP_KEY)
    keys["netns_cookie"] = row.skip_netns
    keys["address"], keys["port"], keys["protocol"] = np.frombuffer(place_of(row)[0], np.uint8), *place_of(row)[1:]
    return keys


def place_of(row: Frontend) -> Place:
    return address_bytes(row.address), row.port, NUMBERS[row.protocol]


def numbers_in(keys: Array) -> list[int]:
    """Whose the keys of cilium_lb_affinity_match and cilium_lb_source_ranges are."""
    return [int(number) for number in keys["service"]]


def places_in(keys: Array) -> list[Place]:
    """Whose the keys of cilium_lb_skip are."""
    return [(key["address"].tobytes(), int(key["port"]), int(key["protocol"])) for key in keys]


def public_names(records: Array) -> list[bytes]:
    """What backends are called on every node alike: 16 bytes of address, two of port, high first, one of protocol."""
    parts = (records["address"], records["port"].copy().view(np.uint8).reshape(-1, 2), records["protocol"][:, None])
    return raw(np.ascontiguousarray(np.concatenate(parts, axis=1)).view("V19").reshape(-1))
