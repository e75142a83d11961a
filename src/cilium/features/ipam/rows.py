"""Tables that IPAM owns."""

from __future__ import annotations

import msgspec

from cilium.tables.types import IPAddress


class IPAllocation(msgspec.Struct, frozen=True):
    """Table `ip-allocations`, key `address`, index `owner`: every address of this node's pod CIDRs that is in use."""

    address: IPAddress
    owner: str
    """namespace/pod, `router` or `health`."""
