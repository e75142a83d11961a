"""Which prefixes lie in which, and how security labels name them.

In: CIDRs. Out: labels of source `cidr`, and for a prefix those of a set that contain it.
"""

from __future__ import annotations

from collections.abc import Iterable

from cilium.tables.types import IPNetwork


def cidr_label(prefix: IPNetwork) -> str:
    """`cidr:10.0.0.0/8`. Colons of IPv6 become dashes: `cidr:2001-db8--0/32` is 2001:db8::/32."""
    address = str(prefix.network_address).replace(":", "-")
    if address.startswith("-"):
        address = "0" + address
    if address.endswith("-"):
        address += "0"
    return f"cidr:{address}/{prefix.prefixlen}"


class Containment:
    """Which of a set of prefixes contain a prefix; asks once per prefix length that occurs."""

    def __init__(self, prefixes: Iterable[IPNetwork]) -> None:
        self._known = {(p.version, int(p.network_address), p.prefixlen): p for p in prefixes}
        self._lengths = {
            version: sorted({length for v, _, length in self._known if v == version}) for version in (4, 6)
        }

    def __call__(self, prefix: IPNetwork) -> list[IPNetwork]:
        """Shortest first; the prefix itself included if it is in the set."""
        found = []
        address, bits = int(prefix.network_address), prefix.max_prefixlen
        for length in self._lengths[prefix.version]:
            if length > prefix.prefixlen:
                break
            masked = address >> (bits - length) << (bits - length)
            outer = self._known.get((prefix.version, masked, length))
            if outer is not None:
                found.append(outer)
        return found
