"""Wires endpoint management: the endpoint map, CiliumEndpoints, and who waits for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cilium.datapath.maps import BpfMap
from cilium.datapath.runtime import Epoch
from cilium.features.endpoint.compute import EndpointMap, EndpointObjects
from cilium.features.endpoint.ops import EndpointMapOps, EndpointObjectOps, Writes
from cilium.features.endpoint.readiness import Readiness
from cilium.features.endpoint.rows import EndpointMapEntry, EndpointObject
from cilium.state import Derivation, Reconciler, RowStatus, Table
from cilium.state.cell import Cell
from cilium.tables.endpoints import Endpoint, EndpointIdentity, EndpointPolicy
from cilium.tables.kubernetes import CiliumEndpoint, Pod
from cilium.tables.types import EndpointId, IPAddress


@dataclass(frozen=True, kw_only=True)
class EndpointCell:
    cell: Cell
    readiness: Readiness


def build(
    *,
    node_ip: IPAddress,
    port: BpfMap,
    epoch: Epoch,
    writes: Writes,
    attachment_status: Table[tuple[str, str], RowStatus[tuple[str, str]]],
    endpoints: Table[EndpointId, Endpoint],
    endpoint_identities: Table[EndpointId, EndpointIdentity],
    endpoint_policies: Table[EndpointId, EndpointPolicy],
    endpoint_map: Table[IPAddress, EndpointMapEntry],
    endpoint_objects: Table[str, EndpointObject],
    cilium_endpoints: Table[str, CiliumEndpoint],
    pods: Table[str, Pod],
) -> EndpointCell:
    inputs: dict[str, Table[Any, Any]] = {
        "endpoints": endpoints,
        "endpoint-identities": endpoint_identities,
        "endpoint-policies": endpoint_policies,
    }
    rows = EndpointMapOps(port=port, epoch=epoch)
    # Patient: after a restart, endpoints whose policy is not computed yet must not be closed that were open.
    maps = Reconciler("endpoint-map", table=endpoint_map, operations=rows, patient=True)
    objects = Reconciler(
        "endpoint-objects",
        table=endpoint_objects,
        operations=EndpointObjectOps(writes=writes, node_ip=node_ip, published=cilium_endpoints),
        debounce=0.05,
    )
    readiness = Readiness(entries=endpoint_map, status=maps.status, attachments=attachment_status)
    cell = Cell(
        name="endpoint",
        derivations=(
            Derivation(
                "endpoint-map",
                inputs=inputs,
                outputs={"endpoint-map": endpoint_map.writer("endpoint")},
                compute=EndpointMap().compute,
            ),
            Derivation(
                "endpoint-objects",
                inputs=inputs | {"cilium-endpoints": cilium_endpoints, "pods": pods},
                outputs={"endpoint-objects": endpoint_objects.writer("endpoint")},
                compute=EndpointObjects(node_ip=node_ip).compute,
            ),
        ),
        reconcilers=(maps, objects),
        tasks=(("endpoint readiness", readiness.run), ("endpoint adoption", rows.end_adoptions)),
    )
    return EndpointCell(cell=cell, readiness=readiness)
