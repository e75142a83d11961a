"""Addresses: given once, both families or none, the released ones last."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from cilium.features.ipam.allocator import AddressesExhaustedError, AddressInUseError, Allocator
from cilium.features.ipam.rows import IPAllocation
from cilium.state import Table
from cilium.tables.types import IPAddress


def allocator(*cidrs: str, families: tuple[int, ...] = (4, 6)) -> Allocator:
    table: Table[IPAddress, IPAllocation] = Table("ip-allocations", key=lambda row: row.address)
    made = Allocator(table=table, writer=table.writer("test"), families=families)
    made.set_cidrs([ip_network(cidr) for cidr in cidrs])
    return made


async def test_one_address_of_each_family() -> None:
    given = allocator("10.0.0.0/29", "fd00::/125").allocate("default/a")
    assert given == (ip_address("10.0.0.1"), ip_address("fd00::1"))


async def test_a_released_address_is_the_last_to_come_back() -> None:
    pool = allocator("10.0.0.0/29", families=(4,))
    first = pool.allocate("a")
    pool.release(first)
    rest = [pool.allocate("b")[0] for _ in range(5)]
    assert first[0] not in rest
    assert pool.allocate("c") == first


async def test_exhaustion_names_the_cidr_and_the_way_out_and_takes_nothing() -> None:
    pool = allocator("10.0.0.0/30", "fd00::/120")
    pool.allocate("a")
    pool.allocate("b")
    with pytest.raises(AddressesExhaustedError, match=r"10\.0\.0\.0/30.*clusterPoolIPv4MaskSize"):
        pool.allocate("c")
    pool.release([ip_address("10.0.0.1")])
    assert pool.allocate("c")[1] == ip_address("fd00::3")


async def test_no_cidr_yet() -> None:
    pool = allocator("10.0.0.0/24")
    assert not pool.ready
    with pytest.raises(AddressesExhaustedError, match="no IPv6 pod CIDR"):
        pool.allocate("a")


async def test_restored_addresses_are_taken() -> None:
    pool = allocator("10.0.0.0/29", families=(4,))
    pool.claim([ip_address("10.0.0.1")], "default/a")
    pool.claim([ip_address("10.0.0.1")], "default/a")
    with pytest.raises(AddressInUseError, match="default/a"):
        pool.claim([ip_address("10.0.0.1")], "default/b")
    assert pool.allocate("default/c") == (ip_address("10.0.0.2"),)
