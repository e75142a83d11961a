"""Addresses in records: 16 bytes, IPv4 as the v4-mapped address ::ffff:a.b.c.d (RFC 4291 2.5.5.2).

Owns: the conversions between those bytes, `ipaddress` objects, text, and the pair of 64-bit columns that filters
compare.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import numpy as np
from numpy.typing import NDArray

from cilium.tables.types import IPAddress, IPNetwork

Mask = NDArray[np.bool_]
MAPPED = bytes(10) + b"\xff\xff"


def packed(address: IPAddress) -> bytes:
    return MAPPED + address.packed if isinstance(address, IPv4Address) else address.packed


def unpacked(address: bytes) -> IPAddress:
    return IPv4Address(address[12:]) if address[:12] == MAPPED else IPv6Address(address)


def is_ipv4(address: bytes) -> bool:
    return address[:12] == MAPPED


def text(address: bytes) -> str:
    """`10.0.0.1` or `fd00::1`."""
    if address[:12] == MAPPED:
        return socket.inet_ntop(socket.AF_INET, address[12:])
    return socket.inet_ntop(socket.AF_INET6, address)


def network(value: str) -> IPNetwork:
    """An address or a CIDR; host bits are ignored. Raises ValueError."""
    return ip_network(value, strict=False)


def halves(column: NDArray[np.void]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """A column of addresses as two columns of 64 bits in host order, upper half first."""
    words = np.ascontiguousarray(column).view(">u8").reshape(-1, 2)
    return words[:, 0].astype(np.uint64), words[:, 1].astype(np.uint64)


def in_network(column: NDArray[np.void], prefix: IPNetwork) -> Mask:
    """Which addresses of the column lie in the prefix; 0.0.0.0/0 holds every IPv4 address and no IPv6 one."""
    length = prefix.prefixlen + (96 if isinstance(prefix, IPv4Network) else 0)
    value = int.from_bytes(packed(prefix.network_address), "big")
    mask = ((1 << length) - 1) << (128 - length)
    upper, lower = halves(column)
    low = (1 << 64) - 1
    inside: Mask = ((upper & np.uint64(mask >> 64)) == np.uint64(value >> 64)) & (
        (lower & np.uint64(mask & low)) == np.uint64(value & low)
    )
    if not isinstance(prefix, IPv4Network) and length <= 96:
        inside &= ~is_ipv4_column(column)
    return inside


def is_ipv4_column(column: NDArray[np.void]) -> Mask:
    upper, lower = halves(column)
    mapped: Mask = (upper == 0) & ((lower >> np.uint64(32)) == np.uint64(0xFFFF))
    return mapped


def fingerprints(column: NDArray[np.void]) -> NDArray[np.uint64]:
    """One 64-bit number per address for set membership; different addresses may share one, so check hits exactly."""
    upper, lower = halves(column)
    return (upper * np.uint64(0x9E3779B97F4A7C15)) ^ lower


def fingerprint_set(addresses: list[bytes]) -> NDArray[np.uint64]:
    return fingerprints(np.frombuffer(b"".join(addresses), dtype="V16"))


def mac_text(mac: bytes) -> str:
    return mac.hex(":")
