"""Wires identity management.

In: endpoints, pods, namespaces, CiliumIdentities, identities of CIDRs and of nodes. Out: `endpoint-identities`,
`identities`; new CiliumIdentities in the API.
"""

from __future__ import annotations

from cilium.features.identity.compute import EndpointIdentities, known_identities
from cilium.features.identity.labels import LabelFilter
from cilium.features.identity.numbers import reserved_rows
from cilium.features.identity.ops import IdentityRequestOps, Writes
from cilium.features.identity.rows import IdentityRequest
from cilium.state import Derivation, Reconciler, Table
from cilium.state.cell import Cell
from cilium.tables.endpoints import Endpoint, EndpointIdentity
from cilium.tables.identities import CIDRIdentity, IdentityRow, NodeIdentity
from cilium.tables.kubernetes import CiliumIdentity, Namespace, Pod
from cilium.tables.types import EndpointId, Identity, IPNetwork, Labels


def build(
    *,
    cluster: str,
    labels: LabelFilter,
    use_well_known: bool,
    writes: Writes,
    endpoints: Table[EndpointId, Endpoint],
    pods: Table[str, Pod],
    namespaces: Table[str, Namespace],
    cilium_identities: Table[Identity, CiliumIdentity],
    cidr_identities: Table[IPNetwork, CIDRIdentity],
    node_identities: Table[Identity, NodeIdentity] | None = None,
    identities: Table[Identity, IdentityRow],
    endpoint_identities: Table[EndpointId, EndpointIdentity],
    requests: Table[Labels, IdentityRequest],
) -> Cell:
    identity_writer = identities.writer("identity")
    identity_writer.commit(upserts=reserved_rows())
    return Cell(
        name="identity",
        derivations=(
            Derivation(
                "identities",
                inputs={
                    "cilium-identities": cilium_identities,
                    "cidr-identities": cidr_identities,
                    **({} if node_identities is None else {"node-identities": node_identities}),
                },
                outputs={"identities": identity_writer},
                compute=known_identities,
            ),
            Derivation(
                "endpoint-identities",
                inputs={
                    "endpoints": endpoints,
                    "pods": pods,
                    "namespaces": namespaces,
                    "cilium-identities": cilium_identities,
                },
                outputs={
                    "endpoint-identities": endpoint_identities.writer("identity"),
                    "identity-requests": requests.writer("identity"),
                },
                compute=EndpointIdentities(cluster=cluster, labels=labels, use_well_known=use_well_known).compute,
            ),
        ),
        reconcilers=(
            Reconciler("identity-requests", table=requests, operations=IdentityRequestOps(writes), refresh=5.0),
        ),
    )
