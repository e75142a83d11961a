"""Hands out addresses of this node's pod CIDRs.

In: the CIDRs (of Node.spec in mode kubernetes, of CiliumNode.spec.ipam in mode cluster-pool), requests. Out: rows of
`ip-allocations`. An address just released is the last to be handed out again, so a late packet for the old pod does
not reach a new one. Network and broadcast address of an IPv4 CIDR and the subnet-router anycast address of an IPv6
CIDR (RFC 4291 2.6.1) are never handed out.
"""

from __future__ import annotations

from collections.abc import Sequence

from cilium.features.ipam.rows import IPAllocation
from cilium.state import Table, Writer
from cilium.tables.types import IPAddress, IPNetwork


class AddressesExhaustedError(Exception):
    """No free address of a family: names the CIDRs, what they hold and the way out."""


class AddressInUseError(Exception):
    """A wanted address belongs to somebody else."""


class Allocator:
    """The addresses of one node, both families."""

    def __init__(
        self,
        *,
        table: Table[IPAddress, IPAllocation],
        writer: Writer[IPAddress, IPAllocation],
        families: Sequence[int],
    ) -> None:
        self._table, self._writer, self._families = table, writer, tuple(families)
        self._cidrs: tuple[IPNetwork, ...] = ()
        self._next: dict[IPNetwork, int] = {}

    @property
    def cidrs(self) -> tuple[IPNetwork, ...]:
        return self._cidrs

    @property
    def ready(self) -> bool:
        """Whether each enabled family has a CIDR."""
        return all(any(cidr.version == family for cidr in self._cidrs) for family in self._families)

    def set_cidrs(self, cidrs: Sequence[IPNetwork]) -> None:
        """Replaces the CIDRs; addresses in use outside of them stay in use until released."""
        self._cidrs = tuple(cidr for cidr in cidrs if cidr.version in self._families)

    def allocate(self, owner: str) -> tuple[IPAddress, ...]:
        """One address per enabled family, IPv4 first; all or none.

        Raises AddressesExhaustedError.
        """
        addresses = tuple(self._free(family) for family in self._families)
        self._writer.commit(upserts=[IPAllocation(address, owner) for address in addresses])
        return addresses

    def claim(self, addresses: Sequence[IPAddress], owner: str) -> None:
        """Marks known addresses as in use (restored endpoints). Raises AddressInUseError."""
        snapshot = self._table.snapshot()
        for address in addresses:
            row = snapshot.get(address)
            if row is not None and row.owner != owner:
                raise AddressInUseError(f"address {address} of {owner} is in use by {row.owner}")
        self._writer.commit(upserts=[IPAllocation(address, owner) for address in addresses])

    def restored(self) -> None:
        """What was in use before this process has been claimed."""
        self._writer.ready()

    def fits(self, addresses: Sequence[IPAddress]) -> bool:
        """Whether these are one address per enabled family, of the present CIDRs and used by nobody."""
        used = self._table.snapshot()
        return sorted(address.version for address in addresses) == sorted(self._families) and all(
            address not in used and any(address.version == cidr.version and address in cidr for cidr in self._cidrs)
            for address in addresses
        )

    def release(self, addresses: Sequence[IPAddress]) -> None:
        """Frees addresses; one that is not in use is no error."""
        self._writer.commit(deletes=list(addresses))

    def _free(self, family: int) -> IPAddress:
        used = self._table.snapshot()
        cidrs = [cidr for cidr in self._cidrs if cidr.version == family]
        for cidr in cidrs:
            first, count = 1, cidr.num_addresses - (2 if family == 4 and cidr.prefixlen < 31 else 1)
            start = self._next.get(cidr, 0)
            for step in range(min(count, len(used) + 1)):
                offset = (start + step) % count
                address = cidr[first + offset]
                if address not in used:
                    self._next[cidr] = offset + 1
                    return address
        if not cidrs:
            raise AddressesExhaustedError(f"no IPv{family} pod CIDR is assigned to this node yet")
        names = ", ".join(map(str, cidrs))
        raise AddressesExhaustedError(
            f"every IPv{family} address of {names} is in use; give the node a larger pod CIDR "
            f"(clusterPoolIPv{family}MaskSize) or delete pods"
        )
