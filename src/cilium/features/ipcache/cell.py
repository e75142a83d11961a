"""Wires the ipcache and the identities of nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cilium.datapath.maps import BpfMap
from cilium.datapath.runtime import Epoch
from cilium.features.ipcache.compute import IPCache
from cilium.features.ipcache.nodes import NodeIdentities
from cilium.features.ipcache.ops import IPCacheOps
from cilium.state import Derivation, Reconciler, Table
from cilium.state.cell import Cell
from cilium.tables.devices import Device
from cilium.tables.endpoints import Endpoint, EndpointIdentity
from cilium.tables.identities import CIDRIdentity, JudgedIdentity, NodeIdentity
from cilium.tables.ipcache import IPCacheEntry
from cilium.tables.kubernetes import CiliumEndpoint, CiliumNode, KubeApiservers, KubeNode
from cilium.tables.types import EndpointId, Identity, IPAddress, IPNetwork


def build(
    *,
    node: str,
    node_ips: frozenset[IPAddress],
    underlay_version: int,
    hosts: BpfMap,
    cidrs: BpfMap,
    epoch: Epoch,
    endpoints: Table[EndpointId, Endpoint],
    endpoint_identities: Table[EndpointId, EndpointIdentity],
    cilium_endpoints: Table[str, CiliumEndpoint],
    cilium_nodes: Table[str, CiliumNode],
    devices: Table[int, Device],
    cidr_identities: Table[IPNetwork, CIDRIdentity],
    judged_identities: Table[Identity, JudgedIdentity],
    kube_apiservers: Table[str, KubeApiservers],
    kube_nodes: Table[str, KubeNode],
    node_identities: Table[Identity, NodeIdentity],
    node_labels: bool,
    node_cidrs: bool,
    ipcache: Table[IPNetwork, IPCacheEntry],
) -> Cell:
    """`node_labels`, `node_cidrs`: policies select nodes by label, by CIDR; if neither, nodes are not told apart."""
    told_apart = node_labels or node_cidrs
    nodes = _nodes(
        (cilium_nodes, kube_nodes, cidr_identities, kube_apiservers),
        node_identities,
        NodeIdentities(node=node, labels=node_labels, cidrs=node_cidrs),
    )
    return Cell(
        name="ipcache",
        derivations=(
            *((nodes,) if told_apart else ()),
            Derivation(
                "ipcache",
                inputs={
                    "endpoints": endpoints,
                    "endpoint-identities": endpoint_identities,
                    "cilium-endpoints": cilium_endpoints,
                    "cilium-nodes": cilium_nodes,
                    "devices": devices,
                    "cidr-identities": cidr_identities,
                    "kube-apiservers": kube_apiservers,
                    "judged-identities": judged_identities,
                    **({"node-identities": node_identities} if told_apart else {}),
                },
                outputs={"ipcache": ipcache.writer("ipcache")},
                compute=IPCache(node=node, node_ips=node_ips, underlay_version=underlay_version).compute,
            ),
        ),
        reconcilers=(
            # Patient: a weaker source that is heard first must not take an address from a stronger one.
            Reconciler(
                "ipcache",
                table=ipcache,
                operations=IPCacheOps(hosts=hosts, cidrs=cidrs, epoch=epoch),
                patient=True,
            ),
        ),
    )


def _nodes(
    inputs: Iterable[Table[Any, Any]], output: Table[Identity, NodeIdentity], identities: NodeIdentities
) -> Derivation:
    return Derivation(
        "node-identities",
        inputs={table.name: table for table in inputs},
        outputs={"node-identities": output.writer("ipcache")},
        compute=identities.compute,
    )
