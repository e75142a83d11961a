"""An agent's API with known rows, on a unix socket, for command lines."""

from __future__ import annotations

import asyncio
import threading
from ipaddress import ip_address, ip_network
from pathlib import Path

from cilium.app.inspection import Inspection
from cilium.app.rest.server import serve_api
from cilium.app.tables import AgentTables
from cilium.features.health.rows import NodeHealth
from cilium.features.ipam.rows import IPAllocation
from cilium.settings import from_values
from cilium.sources.kubernetes.tables import KubernetesTables
from cilium.state import Table
from cilium.tables.endpoints import Endpoint, EndpointIdentity, EndpointPolicy
from cilium.tables.identities import IdentityRow
from cilium.tables.ipcache import IPCacheEntry
from cilium.tables.kubernetes import CiliumNode
from cilium.tables.types import EndpointId, Identity, PolicyId


def agent() -> Inspection:
    """A node with a pod, ready but for what a test changes."""
    made = Inspection(settings=from_values({}), node="n1", version="1.2.3", stage="ready")
    tables, kubernetes = AgentTables(), KubernetesTables()
    policies: Table[EndpointId, EndpointPolicy] = Table("endpoint-policies", key=lambda row: row.endpoint)
    made.add_tables([*tables, *kubernetes, policies])
    web, host = EndpointId(9), EndpointId(65535)
    tables.endpoints.writer("test").commit(
        upserts=[
            Endpoint(id=web, kind="pod", addresses=(ip_address("10.0.0.9"), ip_address("fd00::9")), ifname="lxc9",
                     namespace="shop", pod="web-0"),
            Endpoint(id=host, kind="host", addresses=(ip_address("192.0.2.1"),)),
            Endpoint(id=EndpointId(10), kind="pod", addresses=(ip_address("10.0.0.10"),), namespace="shop", pod="new"),
        ]
    )  # fmt: skip
    tables.endpoint_identities.writer("test").commit(
        upserts=[EndpointIdentity(endpoint=web, identity=Identity(1000), labels=("k8s:app=web",))]
    )
    policies.writer("test").commit(
        upserts=[EndpointPolicy(web, Identity(1000), ingress=PolicyId(7), egress=PolicyId(0), revision=3)]
    )  # fmt: skip
    tables.identities.writer("test").commit(
        upserts=[IdentityRow(Identity(1000), ("k8s:app=web",), "cluster"), IdentityRow(Identity(9), ("x",), "reserved")]
    )
    tables.ipcache.writer("test").commit(
        upserts=[
            IPCacheEntry(prefix=ip_network(prefix), identity=Identity(1000), source="local", owner="shop/web-0")
            for prefix in ("fd00::9/128", "10.0.0.9/32", "10.0.0.10/32", "9.0.0.0/8")
        ]
    )
    tables.allocations.writer("test").commit(upserts=[IPAllocation(ip_address("10.0.0.9"), "shop/web-0")])
    kubernetes.cilium_nodes.writer("test").commit(
        upserts=[
            CiliumNode("n2", {}, internal_ips=(ip_address("192.0.2.2"),)),
            CiliumNode("n1", {}, internal_ips=(ip_address("192.0.2.1"),), health_ips=(ip_address("10.0.0.2"),)),
        ]
    )
    tables.node_health.writer("test").upsert(
        NodeHealth("n2", ip_address("192.0.2.2"), "host", False, 3.0, "no answer", "2026-01-01T00:00:00+00:00")
    )
    return made


class Served:
    """Serves in a thread of its own while the block lasts; command lines block."""

    def __init__(self, made: Inspection, path: Path) -> None:
        self._agent, self._path = made, path
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        runner = await serve_api(self._path, self._agent)
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    def __enter__(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
