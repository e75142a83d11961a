"""Health checks between nodes: the endpoint that answers behind the datapath, the agent's own answer, and who asks.

In: settings, the settled node, the endpoint manager. Out: an endpoint of kind `health`, listening sockets on the node's
addresses and inside the endpoint, CiliumNode.spec.health, the cell that asks.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from cilium.app.built import Built
from cilium.datapath.netlink.netns import call_in_netns, new_netns
from cilium.features.endpoint.own import OwnEndpoint
from cilium.features.health import cell as health_cell
from cilium.features.health.compute import summaries
from cilium.features.health.prober import HttpAsk
from cilium.features.health.responder import Responder, listen
from cilium.features.health.rows import NodeHealth
from cilium.state import Table
from cilium.state.cell import Cell
from cilium.tables.types import IPAddress

KIND, INTERFACE = "health", "lxc_health"

log = structlog.get_logger("health")


class HealthChecks:
    """`endpoint` is made at start-up when health endpoints are on, and taken away when they are not any more."""

    def __init__(self, built: Built, endpoint: OwnEndpoint) -> None:
        self._built, self._endpoint = built, endpoint
        self._settings = built.settings.health
        self._responder = Responder()

    async def start(self) -> tuple[IPAddress, ...]:
        """Answers from here on; returns the addresses of the health endpoint. Raises OSError for a port in use."""
        if not (self._settings.checking and self._settings.endpoint):
            await self._endpoint.remove()
            addresses: tuple[IPAddress, ...] = ()
        else:
            addresses = await self._start_endpoint()
        if self._settings.checking:
            await self._responder.serve(self._listen(self._built.node.internal_ips))
        return addresses

    async def _start_endpoint(self) -> tuple[IPAddress, ...]:
        """The namespace lives as long as this process and its sockets do."""
        netns = await asyncio.to_thread(new_netns)
        try:
            endpoint = await self._endpoint.make(netns)
            wildcards = [{4: "0.0.0.0", 6: "::"}[address.version] for address in endpoint.addresses]
            port = self._settings.cluster_port
            await self._responder.serve(
                await call_in_netns(
                    netns, lambda: [listen(any_, port, version=6 if ":" in any_ else 4) for any_ in wildcards]
                )
            )
        finally:
            os.close(netns)
        return endpoint.addresses

    def _listen(self, addresses: Sequence[IPAddress]) -> list[socket.socket]:
        port = self._settings.cluster_port
        return [listen(str(address), port, version=address.version) for address in addresses]


def build_health(built: Built) -> Cell:
    settings, tables = built.settings, built.tables
    return health_cell.build(
        endpoints=settings.health.endpoint,
        families=settings.families.versions,
        ask=HttpAsk(port=settings.health.cluster_port),
        cilium_nodes=built.kubernetes.cilium_nodes,
        targets=tables.health_targets,
        node_health=tables.node_health,
    )


def document(rows: Table[tuple[str, str], NodeHealth], *, local: str) -> Mapping[str, Any]:
    """What the agent knows of the health of nodes; GET /v1/health."""
    nodes = summaries(rows.snapshot())
    return {
        "local": local,
        "timestamp": max((row.last for row in rows.snapshot()), default=""),
        "nodes": [
            {
                "name": node.name,
                "reachable": node.reachable,
                "host": [_answer(row) for row in node.host],
                "health-endpoint": [_answer(row) for row in node.endpoint],
            }
            for node in nodes
        ],
    }


def _answer(row: NodeHealth) -> Mapping[str, Any]:
    return {"ip": str(row.address), "ok": row.ok, "latency": row.rtt, "status": row.error, "last-probed": row.last}
