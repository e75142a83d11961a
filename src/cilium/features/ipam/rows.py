"""Tables that IPAM owns."""

from __future__ import annotations

import msgspec

from cilium.tables.types import IPAddress, IPNetwork


class IPAllocation(msgspec.Struct, frozen=True):
    """Table `ip-allocations`, key `address`: every address of this node's pod CIDRs that is in use."""

    address: IPAddress
    owner: str
    """namespace/pod, `router` or `health`."""


class NodeCIDRs(msgspec.Struct, frozen=True):
    """Desired table `node-cidrs`, key `node`: the spec.ipam.podCIDRs of a CiliumNode, and what is wrong with them."""

    node: str
    cidrs: tuple[IPNetwork, ...]
    error: str = ""
