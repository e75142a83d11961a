"""What this node is called and addressed by, once that is settled."""

from __future__ import annotations

import msgspec

from cilium.tables.types import IPAddress, IPNetwork


class NodeAddressing(msgspec.Struct, frozen=True):
    """Table `node-addressing`, key `name`, one row: this node. Writer: the agent's start-up."""

    name: str
    internal_ips: tuple[IPAddress, ...]
    router_ips: tuple[IPAddress, ...]
    """Addresses of cilium_host: the pods' gateways."""
    pod_cidrs: tuple[IPNetwork, ...]
    device: str
    """The device that carries the first internal address."""
    mtu: int
    """Of that device, bytes."""
