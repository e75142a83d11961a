"""Which identity every known address has, and behind which node it lives.

In: endpoints of this node and their identities, CiliumEndpoints and CiliumNodes of the others, this node's devices,
CIDRs that policies name, the addresses of API servers, identities of nodes (nodes.py), and of which of these the policy
maps know (`judged-identities`). Out: `ipcache`. Several sources may speak of one prefix; the strongest is heard, the
others are remembered: when a pod's address leaves, the CIDR that contains exactly it comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from ipaddress import ip_network
from typing import Any

import msgspec

from cilium.state import Change, RowChanges, View
from cilium.tables.devices import Device
from cilium.tables.identities import CIDRIdentity, NodeIdentity, Reserved
from cilium.tables.ipcache import IPCacheEntry
from cilium.tables.kubernetes import CiliumEndpoint, CiliumNode, KubeApiservers
from cilium.tables.types import Identity, IPAddress, IPNetwork


class Strength(IntEnum):
    """Who is heard when several sources know a prefix."""

    LOCAL = 5
    HOST = 4
    KUBERNETES = 3
    NODE = 2
    CIDR = 1


Claim = tuple[IPNetwork, Strength, IPCacheEntry]


def claim(
    prefix: IPNetwork, identity: int, strength: Strength, *, owner: str = "", tunnel_endpoint: IPAddress | None = None
) -> Claim:
    row = IPCacheEntry(
        prefix=prefix,
        identity=Identity(identity),
        tunnel_endpoint=tunnel_endpoint,
        source=strength.name.lower(),
        owner=owner,
    )
    return prefix, strength, row


def host_prefix(address: IPAddress) -> IPNetwork:
    return ip_network(address)


class IPCache:
    """The derivation: claims by owner, the strongest claim per prefix."""

    def __init__(self, *, node: str, node_ips: frozenset[IPAddress], underlay_version: int = 4) -> None:
        self._node, self._own_ips, self._underlay = node, node_ips, underlay_version
        self._claims: dict[tuple[str, object], tuple[Claim, ...]] = {}
        self._by_prefix: dict[IPNetwork, dict[tuple[str, object], Claim]] = {}
        self._apiservers: set[IPNetwork] = set()
        self._nodes: dict[IPNetwork, Identity] = {}
        """Identities of other nodes' addresses, where policies tell nodes apart."""
        self._cidrs: dict[Identity, IPNetwork] = {}

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        touched: set[IPNetwork] = set()
        touched |= self._local(view)
        for name, claims in (
            ("devices", self._of_device),
            ("cilium-nodes", self._of_node),
            ("cilium-endpoints", self._of_remote),
        ):
            for change in view.changes.get(name, ()):
                touched |= self._set((name, change.key), claims(change))
        touched |= self._take_cidrs(view) | self._take_apiservers(view) | self._take_nodes(view)
        upserts, deletes = [], []
        for prefix in touched:
            owners = self._by_prefix.get(prefix)
            if owners:
                upserts.append(self._strongest(prefix, owners.values()))
            else:
                deletes.append(prefix)
        return {"ipcache": RowChanges(upserts=upserts, deletes=deletes)}

    def _take_apiservers(self, view: View) -> set[IPNetwork]:
        """Returns the prefixes that began or ceased to be an API server's, as far as anybody claims them."""
        if not view.changes.get("kube-apiservers"):
            return set()
        rows: Iterable[KubeApiservers] = view.snapshots["kube-apiservers"]
        before = self._apiservers
        self._apiservers = {host_prefix(address) for row in rows for address in row.addresses}
        return (before ^ self._apiservers) & self._by_prefix.keys()

    def _take_cidrs(self, view: View) -> set[IPNetwork]:
        """A CIDR is claimed once the policy maps know its identity: until then its addresses are who they were."""
        prefixes: dict[IPNetwork, None] = {}
        for change in view.changes["cidr-identities"]:
            prefixes[change.key] = None
            if change.old is not None:
                self._cidrs.pop(change.old.identity, None)
        for change in view.changes["cidr-identities"]:
            if change.new is not None:
                self._cidrs[change.new.identity] = change.key
        for change in view.changes["judged-identities"]:
            if change.key in self._cidrs:
                prefixes[self._cidrs[change.key]] = None
        touched: set[IPNetwork] = set()
        for prefix in prefixes:
            row: CIDRIdentity | None = view.snapshots["cidr-identities"].get(prefix)
            judged = row is not None and row.identity in view.snapshots["judged-identities"]
            claims = [claim(prefix, row.identity, Strength.CIDR)] if row is not None and judged else []
            touched |= self._set(("cidr-identities", prefix), claims)
        return touched

    def _take_nodes(self, view: View) -> set[IPNetwork]:
        """Returns the claimed prefixes whose node has another identity now."""
        if "node-identities" not in view.snapshots:
            return set()
        if not view.changes["node-identities"] and not view.changes["judged-identities"]:
            return set()
        rows: Iterable[NodeIdentity] = view.snapshots["node-identities"]
        judged, before = view.snapshots["judged-identities"], self._nodes
        self._nodes = {
            host_prefix(address): row.identity for row in rows if row.identity in judged for address in row.addresses
        }
        return {prefix for prefix, _ in before.items() ^ self._nodes.items()} & self._by_prefix.keys()

    def _strongest(self, prefix: IPNetwork, claims: Iterable[Claim]) -> IPCacheEntry:
        """A node may have an identity of its own, and one on which an API server runs is more than a node."""
        row = max(claims, key=lambda held: (held[1], held[2].owner))[2]
        if int(row.identity) != Reserved.REMOTE_NODE:
            return row
        plain = Reserved.KUBE_APISERVER if prefix in self._apiservers else Reserved.REMOTE_NODE
        return msgspec.structs.replace(row, identity=self._nodes.get(prefix, Identity(plain)))

    def _set(self, owner: tuple[str, object], claims: Iterable[Claim]) -> set[IPNetwork]:
        """Replaces what an owner claims; returns the prefixes that may have changed hands."""
        new = tuple(claims)
        old = self._claims.get(owner, ())
        if new == old:
            return set()
        for prefix, _, _ in old:
            holders = self._by_prefix[prefix]
            holders.pop(owner, None)
            if not holders:
                del self._by_prefix[prefix]
        for held in new:
            self._by_prefix.setdefault(held[0], {})[owner] = held
        if new:
            self._claims[owner] = new
        else:
            self._claims.pop(owner, None)
        return {held[0] for held in (*old, *new)}

    def _local(self, view: View) -> set[IPNetwork]:
        touched: set[IPNetwork] = set()
        numbers = {change.key for name in ("endpoints", "endpoint-identities") for change in view.changes[name]}
        for number in numbers:
            endpoint = view.snapshots["endpoints"].get(number)
            identity = view.snapshots["endpoint-identities"].get(number)
            claims = []
            if endpoint is not None and identity is not None and endpoint.kind != "host":
                owner = f"{endpoint.namespace}/{endpoint.pod}" if endpoint.kind == "pod" else endpoint.kind
                claims = [
                    claim(host_prefix(address), identity.identity, Strength.LOCAL, owner=owner)
                    for address in endpoint.addresses
                ]
            touched |= self._set(("endpoints", number), claims)
        return touched

    def _of_device(self, change: Change[int, Device]) -> Iterable[Claim]:
        if change.new is None:
            return
        for interface in change.new.addresses:
            if not interface.ip.is_loopback and not interface.ip.is_link_local:
                yield claim(host_prefix(interface.ip), Reserved.HOST, Strength.HOST, owner=self._node)

    def _of_node(self, change: Change[str, CiliumNode]) -> Iterable[Claim]:
        node = change.new
        if node is None or node.name == self._node:
            return
        tunnel = next((ip for ip in node.internal_ips if ip.version == self._underlay), None)
        for address in node.internal_ips:
            yield claim(host_prefix(address), Reserved.REMOTE_NODE, Strength.NODE, owner=node.name)
        for address in node.router_ips:
            yield claim(
                host_prefix(address),
                Reserved.REMOTE_NODE,
                Strength.NODE,
                owner=node.name,
                tunnel_endpoint=tunnel,
            )
        for address in node.health_ips:
            yield claim(host_prefix(address), Reserved.HEALTH, Strength.NODE, owner=node.name, tunnel_endpoint=tunnel)
        for cidr in node.pod_cidrs:  # pods the API has not told of yet: reachable, but nobody's peer
            yield claim(cidr, Reserved.UNMANAGED, Strength.NODE, owner=node.name, tunnel_endpoint=tunnel)

    def _of_remote(self, change: Change[str, CiliumEndpoint]) -> Iterable[Claim]:
        pod = change.new
        if pod is None or pod.node_ip is None or pod.identity == 0:
            return
        if pod.node_ip in self._own_ips:
            return  # the agent knows its own endpoints better than the API does
        for address in pod.ips:
            yield claim(
                host_prefix(address),
                pod.identity,
                Strength.KUBERNETES,
                owner=pod.key,
                tunnel_endpoint=pod.node_ip,
            )
