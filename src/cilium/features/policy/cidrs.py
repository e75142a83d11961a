"""Identities of the CIDRs that policies name, and of the API servers.

In: `policies`, `kube-apiservers`. Out: `cidr-identities`, and the selectors by which rules find these identities.

An address gets the identity of the longest named prefix it lies in. That identity carries the labels of all named
prefixes around it, so `10.0.0.0/8 except 10.1.0.0/16` is one label present and another absent.

The address of an API server outside the cluster's nodes is a prefix of its own with one more label, so rules find it
as the API server, by its CIDR and as a part of the world. API servers on nodes are the ipcache's affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Any

from cilium.state import RowChanges, View
from cilium.state.ids import StableIds
from cilium.tables.identities import SCOPE_CIDR, CIDRIdentity, Reserved
from cilium.tables.kubernetes import KubeApiservers
from cilium.tables.prefixes import Containment, cidr_label
from cilium.tables.rules import CIDRPeer, PolicyObject, Requirement, Selector
from cilium.tables.types import Identity, IPNetwork


def world_label(version: int, *, dual_stack: bool) -> str:
    """The world has an identity per family only where there are two families."""
    if not dual_stack:
        return Reserved.WORLD.label
    return (Reserved.WORLD_IPV4 if version == 4 else Reserved.WORLD_IPV6).label


def cidr_selectors(peer: CIDRPeer, *, dual_stack: bool, nodes: bool) -> tuple[Selector, ...]:
    """What lies in the CIDR and in none of its exceptions; `nodes`: also if it is a node.

    A whole family is the world; nodes in it bear its label beside those of narrower CIDRs.
    """
    if peer.cidr.prefixlen:
        inside = [cidr_label(peer.cidr)]
    else:
        inside = [world_label(peer.cidr.version, dual_stack=dual_stack)]
        if nodes and not peer.world_only:
            inside.append(cidr_label(peer.cidr))
    holes: set[str] = set()
    for hole in peer.excepts:
        holes.add(cidr_label(hole))
        if not hole.prefixlen:
            holes.add(world_label(hole.version, dual_stack=dual_stack))
    outside = tuple(Requirement(label, "DoesNotExist") for label in sorted(holes))
    return tuple(Selector((Requirement(label, "Exists"), *outside)) for label in inside)


def named_prefixes(policy: PolicyObject) -> set[IPNetwork]:
    """Every prefix in the rules of an object that needs an identity of its own."""
    peers = (
        peer for rule in policy.rules for direction in (*rule.ingress, *rule.egress) for peer in direction.peers.cidrs
    )
    return {prefix for peer in peers for prefix in (peer.cidr, *peer.excepts) if prefix.prefixlen}


def host_prefixes(row: KubeApiservers | None) -> set[IPNetwork]:
    return {ip_network(address) for address in row.addresses} if row is not None else set()


class CIDRIdentities:
    """Keeps `cidr-identities`. The number of a prefix follows from the prefix, so that it survives restarts."""

    def __init__(self, *, dual_stack: bool) -> None:
        self._dual_stack = dual_stack
        self._ids = StableIds(first=SCOPE_CIDR | 1, last=SCOPE_CIDR | 0xFF_FFFF)
        self._uses: dict[IPNetwork, int] = {}
        self._apiservers: set[IPNetwork] = set()

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        before, apiservers = set(self._uses), self._apiservers
        for change in sorted(view.changes["policies"], key=lambda change: str(change.key)):
            self._count(named_prefixes(change.new) if change.new else (), 1)
            self._count(named_prefixes(change.old) if change.old else (), -1)
        for change in view.changes.get("kube-apiservers", ()):
            self._count(host_prefixes(change.new), 1)
            self._count(host_prefixes(change.old), -1)
        if "kube-apiservers" in view.snapshots:
            rows = view.snapshots["kube-apiservers"]
            self._apiservers = {prefix for row in rows for prefix in host_prefixes(row)}
        changed = (before ^ self._uses.keys()) | (apiservers ^ self._apiservers)
        return {"cidr-identities": self._renew(changed)} if changed else {}

    def _count(self, prefixes: Iterable[IPNetwork], weight: int) -> None:
        for prefix in prefixes:
            self._uses[prefix] = self._uses.get(prefix, 0) + weight
            if not self._uses[prefix]:
                del self._uses[prefix]

    def _renew(self, changed: set[IPNetwork]) -> RowChanges[IPNetwork, CIDRIdentity]:
        """New rows for prefixes that came and for what lies in a prefix that came or went."""
        gone = changed - self._uses.keys()
        for prefix in gone:
            self._ids.free(str(prefix).encode())
        upserts = []
        around, touched = Containment(self._uses), Containment(changed)
        for prefix in sorted((prefix for prefix in self._uses if touched(prefix)), key=str):
            labels = [cidr_label(outer) for outer in around(prefix)]
            labels.append(world_label(prefix.version, dual_stack=self._dual_stack))
            if prefix in self._apiservers:
                labels.append(Reserved.KUBE_APISERVER.label)
            identity = Identity(self._ids.get(str(prefix).encode()))
            upserts.append(CIDRIdentity(prefix=prefix, identity=identity, labels=tuple(sorted(labels))))
        return RowChanges(upserts=upserts, deletes=gone)
