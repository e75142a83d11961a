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
        self._numbers: dict[str, dict[str, Identity]] = {}
        """Of everything that has one, by node and by what it is for."""
        self._around = Containment(())
        self._apiservers: set[IPAddress] = set()

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        """Looks at the nodes that changed; a change of CIDRs or API servers concerns them all."""
        nodes: Snapshot[str, CiliumNode] = view.snapshots["cilium-nodes"]
        concerned = {change.key for name in ("cilium-nodes", "kube-nodes") for change in view.changes[name]}
        if self._take_surroundings(view):
            concerned.update(nodes.keys())
        upserts: list[NodeIdentity] = []
        gone: dict[str, Identity] = {}
        for name in sorted(concerned):
            before, node = self._numbers.pop(name, {}), nodes.get(name)
            rows = {} if node is None else self._rows(node, view.snapshots["kube-nodes"].get(name))
            upserts += rows.values()
            if name != self._node and rows:
                self._numbers[name] = {part: row.identity for part, row in rows.items()}
            gone |= {part: number for part, number in before.items() if part not in rows}
        for part in gone:
            self._ids.free(part.encode())
        return {"node-identities": RowChanges(upserts=upserts, deletes=list(gone.values()))}

    def _take_surroundings(self, view: View) -> bool:
        """Whether CIDRs or API servers changed."""
        changed = bool(view.changes["kube-apiservers"] or (self._cidrs and view.changes["cidr-identities"]))
        if changed:
            self._apiservers = {address for row in view.snapshots["kube-apiservers"] for address in row.addresses}
            self._around = Containment(view.snapshots["cidr-identities"].keys() if self._cidrs else ())
        return changed

    def _rows(self, node: CiliumNode, kube_node: KubeNode | None) -> dict[str, NodeIdentity]:
        """The identities of a node, by what they are for."""
        own = self._labels_of(kube_node)
        addresses = (*node.internal_ips, *node.router_ips)
        if node.name == self._node:
            labels = {Reserved.HOST.label, *own, *self._cidr_labels(addresses)}
            return {node.name: NodeIdentity(Identity(Reserved.HOST), node.name, tuple(sorted(labels)))}
        rows: dict[str, NodeIdentity] = {}
        for part, shared in self._parts(node.name, addresses).items():
            labels = {Reserved.REMOTE_NODE.label, *own, *self._cidr_labels(shared)}
            if not self._apiservers.isdisjoint(shared):
                labels.add(Reserved.KUBE_APISERVER.label)
            rows[part] = NodeIdentity(Identity(self._ids.get(part.encode())), node.name, tuple(sorted(labels)), shared)
        return rows

    def _labels_of(self, node: KubeNode | None) -> Iterable[str]:
        return [f"node:{key}={value}" for key, value in node.labels.items()] if self._labels and node else ()

    def _cidr_labels(self, addresses: Iterable[IPAddress]) -> Iterable[str]:
        """A whole family contains them too: nodes are no part of the world, which is what it means elsewhere."""
        for prefix in map(ip_network, addresses) if self._cidrs else ():
            yield cidr_label(prefix.supernet(new_prefix=0))
            yield from map(cidr_label, self._around(prefix))

    def _parts(self, node: str, addresses: Iterable[IPAddress]) -> Mapping[str, tuple[IPAddress, ...]]:
        """Addresses of a node that share an identity, by what that is for."""
        parts: dict[str, tuple[IPAddress, ...]] = {}
        for address in addresses:
            apart = f" {address}" if self._cidrs else " kube-apiserver" if address in self._apiservers else ""
            parts[node + apart] = (*parts.get(node + apart, ()), address)
        return parts
