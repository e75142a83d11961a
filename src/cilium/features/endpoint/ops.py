"""Writes the endpoints of this node into the datapath and into the API."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import structlog

from cilium.datapath.addresses import addresses_array, mac_bytes
from cilium.datapath.batches import delete_rows, prune, update_rows
from cilium.datapath.errors import DatapathError
from cilium.datapath.generated import ENDPOINT, ENDPOINT_KEY, EndpointFlags
from cilium.datapath.maps import BpfMap
from cilium.datapath.runtime import Epoch
from cilium.features.endpoint.adoption import Adoption
from cilium.features.endpoint.rows import EndpointMapEntry, EndpointObject
from cilium.state import Table
from cilium.state.outcomes import each_async
from cilium.state.reconciler import Errors
from cilium.tables.kubernetes import CiliumEndpoint
from cilium.tables.types import IPAddress

log = structlog.get_logger("endpoint")


def encode_keys(rows: Sequence[EndpointMapEntry]) -> Any:
    keys = np.zeros(len(rows), dtype=ENDPOINT_KEY)
    keys["address"] = addresses_array(row.address for row in rows)
    return keys


def encode_values(rows: Sequence[EndpointMapEntry], adopting: Sequence[bool] = ()) -> Any:
    values = np.zeros(len(rows), dtype=ENDPOINT)
    for number, row in enumerate(rows):
        value = values[number]
        value["ifindex"], value["identity"], value["id"] = row.ifindex, row.identity, row.endpoint
        value["ingress_policy"], value["egress_policy"] = row.ingress_policy, row.egress_policy
        value["mac"], value["node_mac"] = list(mac_bytes(row.mac)), list(mac_bytes(row.host_mac))
        value["flags"] = (
            EndpointFlags.HOST * row.host
            | EndpointFlags.HEALTH * row.health
            | EndpointFlags.NOT_READY * row.not_ready
            | EndpointFlags.AUDIT * row.audit
        )
    if adopting:
        values["flags"] |= np.where(adopting, np.uint16(EndpointFlags.ADOPTING), np.uint16(0))
    return values


class EndpointMapOps:
    """Operations of the `endpoint-map` reconciler: rows of cilium_lxc.

    After every change the epoch advances: till then processors may use the rows they read before (cilium_near).
    """

    def __init__(self, *, port: BpfMap, epoch: Epoch, adoption: Adoption | None = None) -> None:
        self._port, self._epoch = port, epoch
        self._adoption = adoption or Adoption()
        self._adopting = asyncio.Event()

    def update(self, rows: Sequence[EndpointMapEntry]) -> Errors:
        rows = self._without_served(rows)
        if not rows:
            return {}
        return self._write(rows)

    def _write(self, rows: Sequence[EndpointMapEntry]) -> Errors:
        adopting = self._adoption.mark(rows, *self._port.lookup(encode_keys(rows)))
        if any(adopting):
            self._adopting.set()
        errors = update_rows(
            self._port,
            rows,
            keys=encode_keys,
            values=lambda rows: encode_values(rows, adopting),
            name=lambda row: row.address,
        )
        self._epoch.advance()
        return errors

    async def end_adoptions(self) -> None:
        """Until cancelled. A row that cannot be written keeps its mark until the reconciler's next refresh."""
        while True:
            await self._adopting.wait()
            while (pause := self._adoption.next_end()) is not None:
                await asyncio.sleep(pause)
                ended = self._adoption.ended()
                try:
                    errors = self._write(ended) if ended else {}
                except DatapathError as error:
                    errors = {row.address: error for row in ended}
                self._adoption.forget(ended)
                for address, failure in errors.items():
                    log.warning("still takes over connections", address=str(address), error=str(failure))
            self._adopting.clear()

    def _without_served(self, rows: Sequence[EndpointMapEntry]) -> Sequence[EndpointMapEntry]:
        """After a restart policies are computed later than endpoints are found: until then an endpoint that the last
        agent served keeps the row it has, or its connections would be cut."""
        closed = [row for row in rows if row.not_ready]
        if not closed:
            return rows
        values, found = self._port.lookup(encode_keys(closed))
        served = {
            row.address
            for row, value, present in zip(closed, values, found, strict=True)
            if present and value["ifindex"] == row.ifindex and not value["flags"] & EndpointFlags.NOT_READY
        }
        return [row for row in rows if row.address not in served]

    def delete(self, rows: Sequence[EndpointMapEntry]) -> Errors:
        self._adoption.forget(rows)
        errors = delete_rows(self._port, rows, keys=encode_keys, name=lambda row: row.address)
        self._epoch.advance()
        return errors

    def prune(self, rows: Sequence[EndpointMapEntry]) -> None:
        if prune(self._port, encode_keys(rows)):
            self._epoch.advance()


class Writes(Protocol):
    """The writing half of the Kubernetes client that CiliumEndpoints need."""

    async def apply_endpoint(self, namespace: str, name: str, body: Any) -> None: ...
    async def delete_endpoint(self, namespace: str, name: str, *, node_ip: str) -> None:
        """Only the object of that node."""


class EndpointObjectOps:
    """Operations of the `endpoint-objects` reconciler: CiliumEndpoints of this node's pods.

    `published` is what the API shows; it is asked by node, so a large cluster costs a node nothing.
    """

    def __init__(self, *, writes: Writes, node_ip: IPAddress, published: Table[str, CiliumEndpoint]) -> None:
        self._writes, self._node_ip, self._published = writes, node_ip, published

    async def update(self, rows: Sequence[EndpointObject]) -> Errors:
        return await each_async(
            rows,
            key=lambda row: row.key,
            call=lambda row: self._writes.apply_endpoint(row.namespace, row.name, endpoint_body(row)),
        )

    async def delete(self, rows: Sequence[EndpointObject]) -> Errors:
        return await each_async(
            rows,
            key=lambda row: row.key,
            call=lambda row: self._writes.delete_endpoint(row.namespace, row.name, node_ip=str(self._node_ip)),
        )

    async def prune(self, rows: Sequence[EndpointObject]) -> None:
        await self._published.wait_initialized()
        keep = {row.key for row in rows}
        for found in self._published.snapshot().by("node", self._node_ip):
            if found.key not in keep:
                await self._writes.delete_endpoint(found.namespace, found.name, node_ip=str(self._node_ip))


def endpoint_body(row: EndpointObject) -> dict[str, Any]:
    """The CiliumEndpoint; owned by its pod, so the API collects it if this node never comes back."""
    pairs: dict[str, str] = {f"ipv{address.version}": str(address) for address in row.addresses}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumEndpoint",
        "metadata": {
            "name": row.name,
            "namespace": row.namespace,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": row.name, "uid": row.pod_uid}],
        },
        "status": {
            "id": row.endpoint,
            "identity": {"id": row.identity, "labels": list(row.labels)},
            "networking": {"addressing": [pairs], "node": str(row.node_ip)},
            "named-ports": [
                {"name": port.name, "port": port.port, "protocol": port.protocol} for port in row.named_ports
            ],
            "policy": {
                "ingress": {"enforcing": row.ingress_enforced, "state": _state(row.ingress_enforced)},
                "egress": {"enforcing": row.egress_enforced, "state": _state(row.egress_enforced)},
            },
            "state": "ready",
        },
    }


def _state(enforced: bool) -> str:
    return "ENABLED" if enforced else "DISABLED"
