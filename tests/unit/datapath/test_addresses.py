"""One address form for both families."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest

from cilium.datapath.addresses import (
    address_bytes,
    address_from,
    addresses_array,
    mac_bytes,
    prefix_bits,
)


@pytest.mark.parametrize("text", ["10.0.0.1", "0.0.0.0", "255.255.255.255", "::", "::1", "fd00::1", "2001:db8::a"])
def test_there_and_back(text: str) -> None:
    raw = address_bytes(ip_address(text))
    assert len(raw) == 16
    assert address_from(raw) == ip_address(text)


def test_ipv4_is_mapped_and_no_address_is_zero() -> None:
    assert IPv6Address(address_bytes(IPv4Address("10.0.0.1"))) == IPv6Address("::ffff:10.0.0.1")
    assert address_bytes(None) == bytes(16)


def test_columns() -> None:
    column = addresses_array([ip_address("10.0.0.1"), None, ip_address("fd00::1")])
    assert column.shape == (3, 16)
    assert address_from(column[2]) == ip_address("fd00::1")
    assert addresses_array([]).shape == (0, 16)


def test_prefixes_count_the_mapping() -> None:
    assert prefix_bits(ip_network("10.0.0.0/8")) == 104
    assert prefix_bits(ip_network("fd00::/8")) == 8


def test_macs() -> None:
    assert mac_bytes("02:00:5e:00:00:ff") == b"\x02\x00\x5e\x00\x00\xff"
    assert mac_bytes("") == bytes(6)


def test_wrong_lengths() -> None:
    with pytest.raises(ValueError, match="16 bytes, not 4"):
        address_from(b"1234")
    with pytest.raises(ValueError, match="no MAC address"):
        mac_bytes("02:00")
