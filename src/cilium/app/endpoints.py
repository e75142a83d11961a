"""The endpoints of this node: who makes and restores them, and the socket through which the CNI plugin asks.

In: `Built` and its features. Out: rows of `endpoints`, that of the node itself among them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from cilium.app.building import Features
from cilium.app.built import Built
from cilium.app.health import INTERFACE, KIND, HealthChecks
from cilium.datapath.netlink.netns import netns_cookie
from cilium.features.endpoint.manager import EndpointManager
from cilium.features.endpoint.own import OwnEndpoint
from cilium.features.endpoint.statedir import StateDirectory
from cilium.sources.cni.server import CNIServer
from cilium.tables.endpoints import Endpoint
from cilium.tables.types import EndpointId, IPAddress

HOST_ENDPOINT = EndpointId(65535)


class Endpoints:
    """The endpoint manager with everything it touches, and the socket it is asked through."""

    def __init__(self, built: Built, features: Features) -> None:
        self._built = built
        self._writer = built.tables.endpoints.writer("endpoint")
        self._restored = self._writer.initializer("restore")
        state = StateDirectory(built.state / "state")
        self._manager = EndpointManager(
            table=built.tables.endpoints,
            writer=self._writer,
            state=state,
            links=built.network.pods,
            addresses=built.allocator,
            readiness=features.readiness,
            gateways=lambda: built.node.router_ips,
            mtu=lambda: built.pod_mtu,
            unavailable=lambda: "" if built.allocator.ready else "no pod CIDR is assigned to this node yet",
        )
        own = OwnEndpoint(
            kind=KIND,
            ifname=INTERFACE,
            table=built.tables.endpoints,
            writer=self._writer,
            state=state,
            links=built.network.pods,
            addresses=built.allocator,
            free_id=self._manager.free_id,
            gateways=lambda: built.node.router_ips,
            mtu=lambda: built.pod_mtu,
        )
        self._health = HealthChecks(built, own)
        self._server = CNIServer(
            path=Path(built.settings.process.cni_socket),
            delete_queue=built.state / "deleteQueue",
            handler=self._manager,
            served=built.agent.counts.cni_request,
        )
        self._host = Endpoint(id=HOST_ENDPOINT, kind="host", addresses=(), netns_cookie=netns_cookie())
        self._devices = built.tables.devices

    async def restore(self) -> tuple[IPAddress, ...]:
        """Endpoints of the last agent, and the node itself; returns the addresses of the health endpoint."""
        await self._manager.restore()
        self._built.allocator.restored()
        self._writer.upsert(self._host_row())
        health = await self._health.start()
        self._restored()
        return health

    async def serve(self, tasks: asyncio.TaskGroup) -> None:
        await self._server.run(tasks)

    async def follow_host(self) -> None:
        """The node's own addresses are whatever its devices have."""
        changes = self._devices.changes()
        while True:
            await changes.wait()
            changes.pop()
            self._writer.upsert(self._host_row())

    def _host_row(self) -> Endpoint:
        addresses = {
            interface.ip
            for device in self._devices.snapshot()
            for interface in device.addresses
            if not interface.ip.is_loopback and not interface.ip.is_link_local
        }
        ordered = sorted(addresses, key=lambda address: (address.version, int(address)))
        return msgspec.structs.replace(self._host, addresses=tuple(ordered))
