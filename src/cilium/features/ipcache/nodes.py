"""Identities by which policies tell nodes apart.

In: `cilium-nodes`, `kube-nodes` (their labels), `cidr-identities` (the CIDRs that policies name), `kube-apiservers`.
Out: `node-identities`. Only where a setting asks for it: otherwise every other node is `remote-node`.

A node has one number, beside it one for its addresses at which an API server answers; where CIDRs match nodes every
address has one of its own, for a CIDR may contain one address of a node and not another. A number follows from what it
is for, so that it survives restarts; labels change under it. This node is `host`, with the labels of all its addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Any

from cilium.state import RowChanges, Snapshot, View
from cilium.state.ids import StableIds
from cilium.tables.identities import SCOPE_REMOTE_NODE, NodeIdentity, Reserved
from cilium.tables.kubernetes import CiliumNode, KubeNode
from cilium.tables.prefixes import Containment, cidr_label
from cilium.tables.types import Identity, IPAddress


class NodeIdentities:
    """`compute` is the compute function of one derivation. `node`: this one.

    `labels`: nodes bear the labels of their Node objects; `cidrs`: those of the CIDRs around their addresses.
    """

    def __init__(self, *, node: str, labels: bool, cidrs: bool) -> None:
        self._node, self._labels, self._cidrs = node, labels, cidrs
        self._ids = StableIds(first=SCOPE_REMOTE_NODE | 1, last=SCOPE_REMOTE_NODE | 0xFF_FFFF)
        self._numbers: dict[str, Identity] = {}
        """Of everything that has one, by what it is for."""

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        """Looks at every node: they are few, and a change of CIDRs concerns them all."""
        nodes: Snapshot[str, CiliumNode] = view.snapshots["cilium-nodes"]
        kube_nodes: Snapshot[str, KubeNode] = view.snapshots["kube-nodes"]
        apiservers = {address for row in view.snapshots["kube-apiservers"] for address in row.addresses}
        around = Containment(view.snapshots["cidr-identities"].keys() if self._cidrs else ())
        upserts: list[NodeIdentity] = []
        used: set[str] = set()
        for node in sorted(nodes, key=lambda row: row.name):
            own = self._labels_of(kube_nodes.get(node.name))
            addresses = (*node.internal_ips, *node.router_ips)
            if node.name == self._node:
                labels = {Reserved.HOST.label, *own, *self._cidr_labels(addresses, around)}
                upserts.append(NodeIdentity(Identity(Reserved.HOST), node.name, tuple(sorted(labels))))
                continue
            for name, part in self._parts(node.name, addresses, apiservers).items():
                used.add(name)
                labels = {Reserved.REMOTE_NODE.label, *own, *self._cidr_labels(part, around)}
                if not apiservers.isdisjoint(part):
                    labels.add(Reserved.KUBE_APISERVER.label)
                number = self._numbers[name] = Identity(self._ids.get(name.encode()))
                upserts.append(NodeIdentity(number, node.name, tuple(sorted(labels)), part))
        return {"node-identities": RowChanges(upserts=upserts, deletes=self._forget(used))}

    def _forget(self, used: set[str]) -> list[Identity]:
        """Returns the numbers of what is not used any more and was."""
        gone = self._numbers.keys() - used
        for name in gone:
            self._ids.free(name.encode())
        return [self._numbers.pop(name) for name in gone]

    def _labels_of(self, node: KubeNode | None) -> Iterable[str]:
        return [f"node:{key}={value}" for key, value in node.labels.items()] if self._labels and node else ()

    def _cidr_labels(self, addresses: Iterable[IPAddress], around: Containment) -> Iterable[str]:
        """A whole family contains them too: nodes are no part of the world, which is what it means elsewhere."""
        for prefix in map(ip_network, addresses) if self._cidrs else ():
            yield cidr_label(prefix.supernet(new_prefix=0))
            yield from map(cidr_label, around(prefix))

    def _parts(
        self, node: str, addresses: Iterable[IPAddress], apiservers: set[IPAddress]
    ) -> Mapping[str, tuple[IPAddress, ...]]:
        """Addresses of a node that share an identity, by what that is for."""
        parts: dict[str, tuple[IPAddress, ...]] = {}
        for address in addresses:
            apart = f" {address}" if self._cidrs else " kube-apiserver" if address in apiservers else ""
            parts[node + apart] = (*parts.get(node + apart, ()), address)
        return parts
