"""Whole addresses in the hash, prefixes in the trie, and every connection judged anew."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import numpy as np
import pytest

from cilium.datapath.addresses import address_from, addresses_array
from cilium.datapath.fakes import FakeMap
from cilium.datapath.generated import IPCACHE_CIDR_KEY, IpcacheFlags
from cilium.features.ipcache.ops import IPCacheOps, cidr_keys, host_keys
from cilium.tables.ipcache import IPCacheEntry
from cilium.tables.types import Identity


class Epoch:
    def __init__(self) -> None:
        self.value = 0

    def advance(self) -> None:
        self.value += 1


class World:
    def __init__(self) -> None:
        self.hosts, self.cidrs, self.epoch = FakeMap("cilium_ipcache"), FakeMap("cilium_ipcache_cidr"), Epoch()
        self.maps = IPCacheOps(hosts=self.hosts, cidrs=self.cidrs, epoch=self.epoch)

    def longest(self, address: str) -> int:
        """The identity that the trie has for an address; 0 for none."""
        key = np.zeros(1, IPCACHE_CIDR_KEY)
        key["prefixlen"], key["address"] = 160, addresses_array([ip_address(address)])
        return int(self.cidrs.lookup(key)[0]["identity"][0])


def row(prefix: str, identity: int, tunnel: str = "", *, skip: bool = False) -> IPCacheEntry:
    return IPCacheEntry(
        ip_network(prefix), Identity(identity), ip_address(tunnel) if tunnel else None, skip_tunnel=skip
    )


ROWS = [
    row("10.0.0.7/32", 4711, "172.30.0.2"),
    row("fd00::7/128", 4711, "fd30::2", skip=True),
    row("10.0.0.0/8", 11),
    row("10.1.0.0/16", 12),
    row("fd00::/16", 13),
    row("0.0.0.0/0", 2),
]


@pytest.fixture
def world() -> World:
    world = World()
    assert not world.maps.update(ROWS)
    return world


def test_every_row_in_its_map(world: World) -> None:
    assert (len(world.hosts), len(world.cidrs), world.epoch.value) == (2, 4, 1)
    values, found = world.hosts.lookup(host_keys(ROWS[:2]))
    assert found.all()
    assert [str(address_from(raw)) for raw in values["tunnel_endpoint"]] == ["172.30.0.2", "fd30::2"]
    assert values["flags"].tolist() == [0, IpcacheFlags.SKIP_TUNNEL]
    nearest = {"10.9.9.9": 11, "10.1.2.3": 12, "fd00::1": 13, "192.0.2.1": 2, "2001:db8::1": 0}
    assert {address: world.longest(address) for address in nearest} == nearest


def test_what_is_deleted_or_pruned_is_gone(world: World) -> None:
    assert not world.maps.delete([ROWS[0], ROWS[3], ROWS[3]])
    assert world.longest("10.1.2.3") == 11
    world.maps.prune([ROWS[1], ROWS[2]])
    assert (len(world.hosts), len(world.cidrs)) == (1, 1)
    assert world.cidrs.lookup(cidr_keys([ROWS[2]]))[1].all()
    assert world.epoch.value == 2


def test_a_full_map_is_an_error_of_its_own_rows() -> None:
    world = World()
    world.hosts.capacity = 1
    assert set(world.maps.update(ROWS)) == {ip_network("fd00::7/128")}
    assert len(world.cidrs) == 4
