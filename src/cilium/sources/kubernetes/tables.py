"""The tables that this source writes, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cilium.state import Table
from cilium.tables.kubernetes import (
    CiliumEndpoint,
    CiliumIdentity,
    CiliumNode,
    KubeApiservers,
    KubeNode,
    Namespace,
    Pod,
)
from cilium.tables.redirects import RedirectPolicy
from cilium.tables.rules import CIDRGroup, PolicyObject
from cilium.tables.services import EndpointSlice, Service
from cilium.tables.types import Identity


class KubernetesTables:
    """Iteration yields every table, for `cilium-dbg statedb`."""

    def __init__(self) -> None:
        self.pods: Table[str, Pod] = Table("pods", key=lambda row: row.key)
        self.namespaces: Table[str, Namespace] = Table("namespaces", key=lambda row: row.name)
        self.kube_nodes: Table[str, KubeNode] = Table("kube-nodes", key=lambda row: row.name)
        self.kube_apiservers: Table[str, KubeApiservers] = Table("kube-apiservers", key=lambda row: row.name)
        self.cilium_nodes: Table[str, CiliumNode] = Table("cilium-nodes", key=lambda row: row.name)
        self.cilium_endpoints: Table[str, CiliumEndpoint] = Table(
            "cilium-endpoints",
            key=lambda row: row.key,
            indexes={"identity": lambda row: (row.identity,), "node": lambda row: (row.node_ip,)},
        )
        self.cilium_identities: Table[Identity, CiliumIdentity] = Table(
            "cilium-identities", key=lambda row: row.id, indexes={"labels": lambda row: (row.labels,)}
        )
        self.services: Table[str, Service] = Table("services", key=lambda row: row.key)
        self.endpoint_slices: Table[str, EndpointSlice] = Table(
            "endpoint-slices", key=lambda row: row.key, indexes={"service": lambda row: (row.service_key,)}
        )
        self.policies: Table[str, PolicyObject] = Table("policies", key=lambda row: row.key)
        self.cidr_groups: Table[str, CIDRGroup] = Table("cidr-groups", key=lambda row: row.name)
        self.redirect_policies: Table[str, RedirectPolicy] = Table("redirect-policies", key=lambda row: row.key)

    def __iter__(self) -> Iterator[Table[Any, Any]]:
        return iter([table for table in vars(self).values() if isinstance(table, Table)])
