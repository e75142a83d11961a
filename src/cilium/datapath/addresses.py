"""The datapath's one address form: 16 bytes in network byte order, IPv4 as ::ffff:a.b.c.d (RFC 4291 2.5.5.2).

In: `ipaddress` objects. Out: bytes and numpy arrays for map keys, and back.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

import numpy as np
from numpy.typing import NDArray

from cilium.tables.types import IPAddress, IPNetwork

MAPPED = bytes(10) + b"\xff\xff"
ZERO = bytes(16)


def address_bytes(address: IPAddress | None) -> bytes:
    """16 bytes, IPv4 mapped into IPv6; None: all zero, the datapath's "no address"."""
    if address is None:
        return ZERO
    return MAPPED + address.packed if address.version == 4 else address.packed


def address_from(raw: bytes | NDArray[np.uint8]) -> IPAddress:
    """The address that 16 bytes stand for. Raises ValueError on another length."""
    data = bytes(raw)
    if len(data) != 16:
        raise ValueError(f"an address takes 16 bytes, not {len(data)}")
    return IPv4Address(data[12:]) if data.startswith(MAPPED) else IPv6Address(data)


def addresses_array(addresses: Iterable[IPAddress | None]) -> NDArray[np.uint8]:
    """One row of 16 bytes per address: what an `address` column is assigned from."""
    return np.frombuffer(b"".join(map(address_bytes, addresses)), np.uint8).reshape(-1, 16)


def prefix_bits(network: IPNetwork) -> int:
    """The length of a prefix in the 128-bit form: 96 more than its own for IPv4."""
    return network.prefixlen + (96 if network.version == 4 else 0)


def mac_bytes(mac: str) -> bytes:
    """6 bytes of "02:00:00:00:00:01"; the empty string: all zero. Raises ValueError."""
    data = bytes.fromhex(mac.replace(":", "")) if mac else bytes(6)
    if len(data) != 6:
        raise ValueError(f"{mac!r} is no MAC address")
    return data
