"""Writes `ipcache` into the two BPF maps: whole addresses into the hash, shorter prefixes into the trie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from cilium.datapath.addresses import addresses_array, prefix_bits
from cilium.datapath.generated import IPCACHE_CIDR_KEY, IPCACHE_ENTRY, IPCACHE_KEY, IpcacheFlags
from cilium.state.reconciler import Errors
from cilium.tables.ipcache import IPCacheEntry
from cilium.tables.types import IPNetwork


class MapPort(Protocol):
    def update(self, keys: Any, values: Any) -> None: ...
    def delete(self, keys: Any) -> None: ...
    def dump(self) -> tuple[Any, Any]: ...


class Epoch(Protocol):
    def advance(self) -> None:
        """Has every tracked connection judged anew."""


def is_whole(row: IPCacheEntry) -> bool:
    return row.prefix.prefixlen == row.prefix.max_prefixlen


def host_keys(rows: Sequence[IPCacheEntry]) -> Any:
    keys = np.zeros(len(rows), dtype=IPCACHE_KEY)
    keys["address"] = addresses_array(row.prefix.network_address for row in rows)
    return keys


def cidr_keys(rows: Sequence[IPCacheEntry]) -> Any:
    keys = np.zeros(len(rows), dtype=IPCACHE_CIDR_KEY)
    keys["prefixlen"] = [32 + prefix_bits(row.prefix) for row in rows]
    keys["address"] = addresses_array(row.prefix.network_address for row in rows)
    return keys


def values(rows: Sequence[IPCacheEntry]) -> Any:
    table = np.zeros(len(rows), dtype=IPCACHE_ENTRY)
    table["identity"] = [row.identity for row in rows]
    table["encrypt_key"] = [row.encrypt_key for row in rows]
    table["flags"] = [IpcacheFlags.SKIP_TUNNEL if row.skip_tunnel else 0 for row in rows]
    table["tunnel_endpoint"] = addresses_array(row.tunnel_endpoint for row in rows)
    return table


class IPCacheMaps:
    """Operations of the `ipcache` reconciler."""

    def __init__(self, *, hosts: MapPort, cidrs: MapPort, epoch: Epoch) -> None:
        self._hosts, self._cidrs, self._epoch = hosts, cidrs, epoch

    def update(self, rows: Sequence[IPCacheEntry]) -> Errors:
        errors = self._each(rows, lambda port, keys, part: port.update(keys, values(part)))
        self._epoch.advance()
        return errors

    def delete(self, rows: Sequence[IPCacheEntry]) -> Errors:
        errors = self._each(rows, lambda port, keys, _: port.delete(keys))
        self._epoch.advance()
        return errors

    def prune(self, rows: Sequence[IPCacheEntry]) -> None:
        whole = host_keys([row for row in rows if is_whole(row)])
        short = cidr_keys([row for row in rows if not is_whole(row)])
        for port, wanted in ((self._hosts, whole), (self._cidrs, short)):
            present, _ = port.dump()
            keep = {key.tobytes() for key in wanted}
            stale = [number for number, key in enumerate(present) if key.tobytes() not in keep]
            if stale:
                port.delete(present[stale])

    def _each(self, rows: Sequence[IPCacheEntry], write: Any) -> Errors:
        """One batch per map; a failing batch is an error of its rows only."""
        errors: dict[IPNetwork, Exception] = {}
        for port, whole, encode in ((self._hosts, True, host_keys), (self._cidrs, False, cidr_keys)):
            part = [row for row in rows if is_whole(row) is whole]
            if not part:
                continue
            try:
                write(port, encode(part), part)
            except Exception as error:
                errors |= dict.fromkeys((row.prefix for row in part), error)
        return errors
