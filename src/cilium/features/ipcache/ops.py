"""Writes `ipcache` into the two BPF maps: whole addresses into the hash, shorter prefixes into the trie."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from cilium.datapath.addresses import addresses_array, prefix_bits
from cilium.datapath.batches import delete_rows, prune, update_rows
from cilium.datapath.generated import IPCACHE_CIDR_KEY, IPCACHE_ENTRY, IPCACHE_KEY, IpcacheFlags
from cilium.datapath.maps import BpfMap
from cilium.datapath.runtime import Epoch
from cilium.state.reconciler import Errors
from cilium.tables.ipcache import IPCacheEntry


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


class IPCacheOps:
    """Operations of the `ipcache` reconciler. A failing map is an error of its own rows only."""

    def __init__(self, *, hosts: BpfMap, cidrs: BpfMap, epoch: Epoch) -> None:
        self._hosts, self._cidrs, self._epoch = hosts, cidrs, epoch

    def update(self, rows: Sequence[IPCacheEntry]) -> Errors:
        errors: dict[Hashable, Exception] = {}
        for port, keys, part in self._split(rows):
            errors |= update_rows(port, part, keys=keys, values=values, name=lambda row: row.prefix)
        self._epoch.advance()
        return errors

    def delete(self, rows: Sequence[IPCacheEntry]) -> Errors:
        errors: dict[Hashable, Exception] = {}
        for port, keys, part in self._split(rows):
            errors |= delete_rows(port, part, keys=keys, name=lambda row: row.prefix)
        self._epoch.advance()
        return errors

    def prune(self, rows: Sequence[IPCacheEntry]) -> None:
        for port, keys, part in self._split(rows):
            prune(port, keys(part))

    def _split(self, rows: Sequence[IPCacheEntry]) -> Iterable[tuple[BpfMap, Callable[..., Any], list[IPCacheEntry]]]:
        yield self._hosts, host_keys, [row for row in rows if is_whole(row)]
        yield self._cidrs, cidr_keys, [row for row in rows if not is_whole(row)]
