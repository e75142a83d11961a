"""Routes to the pods of every node.

In: `cilium-nodes`, `node-addressing` (this node's router addresses and CIDRs). Out: `routes`.

Own pods are reached through cilium_host, where the datapath delivers them, so a new pod needs no route. Pods of other
nodes: through cilium_host in tunnel mode, through the node's underlay address in native mode with
autoDirectNodeRoutes, and by the network's own routes otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cilium.datapath.names import HOST_DEVICE
from cilium.features.node.rows import Route
from cilium.state import RowChanges, View
from cilium.tables.kubernetes import CiliumNode
from cilium.tables.nodes import NodeAddressing
from cilium.tables.types import IPAddress, IPNetwork


class Routes:
    """The derivation."""

    def __init__(self, *, node: str, tunnel: bool, direct: bool, tunnel_mtu: int) -> None:
        self._node, self._tunnel, self._direct, self._tunnel_mtu = node, tunnel, direct, tunnel_mtu
        self._routes: dict[IPNetwork, Route] = {}

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        wanted: dict[IPNetwork, Route] = {}
        own: NodeAddressing | None = view.snapshots["node-addressing"].get(self._node)
        if own is not None:
            wanted = {route.destination: route for route in self._own(own)}
            for node in view.snapshots["cilium-nodes"]:
                if node.name != self._node:
                    wanted.update((route.destination, route) for route in self._remote(node, own))
        deletes = [destination for destination in self._routes if destination not in wanted]
        self._routes = wanted
        return {"routes": RowChanges(upserts=list(wanted.values()), deletes=deletes)}

    def _own(self, own: NodeAddressing) -> Iterable[Route]:
        for cidr in own.pod_cidrs:
            yield Route(destination=cidr, device=HOST_DEVICE, source=_of_version(own.router_ips, cidr.version))

    def _remote(self, node: CiliumNode, own: NodeAddressing) -> Iterable[Route]:
        for cidr in node.pod_cidrs:
            source = _of_version(own.router_ips, cidr.version)
            gateway = _of_version(node.internal_ips, cidr.version)
            if self._tunnel:
                yield Route(destination=cidr, device=HOST_DEVICE, source=source, mtu=self._tunnel_mtu)
            elif self._direct and gateway is not None:
                yield Route(destination=cidr, device=own.device, gateway=gateway)


def _of_version(addresses: Iterable[IPAddress], version: int) -> IPAddress | None:
    return next((address for address in addresses if address.version == version), None)
