"""Tables that node management owns."""

from __future__ import annotations

import msgspec

from cilium.tables.types import IPAddress, IPNetwork


class Route(msgspec.Struct, frozen=True):
    """Desired table `routes`, key `destination`: a route of the node's main table that bears our protocol number."""

    destination: IPNetwork
    device: str
    gateway: IPAddress | None = None
    source: IPAddress | None = None
    mtu: int = 0
    """0: the device's."""


class NodeObject(msgspec.Struct, frozen=True):
    """Desired table `node-objects`, key `name`: this node's CiliumNode as the API should show it."""

    name: str
    labels: tuple[tuple[str, str], ...]
    internal_ips: tuple[IPAddress, ...]
    router_ips: tuple[IPAddress, ...]
    health_ips: tuple[IPAddress, ...]
    pod_cidrs: tuple[IPNetwork, ...] | None
    """None: the operator assigns them (cluster-pool)."""
    boot_id: str
    ipam_mode: str
    node_uid: str = ""
    """Of the Node, with which the CiliumNode goes."""
