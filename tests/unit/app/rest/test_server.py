"""The agent's API over a real socket: what is told before it is ready, afterwards, and of what is not there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cilium.app.inspection import Inspection
from cilium.app.rest.server import serve_api, serve_metrics, serve_probes
from cilium.app.tables import AgentTables
from cilium.settings import Settings
from cilium.sources.kubernetes.tables import KubernetesTables
from cilium.state import Reconciler, Table
from cilium.tables.endpoints import Endpoint, EndpointIdentity
from cilium.tables.identities import IdentityRow
from cilium.tables.ipcache import IPCacheEntry
from cilium.tables.kubernetes import CiliumNode
from cilium.tables.types import EndpointId, Identity


class Agent:
    """An inspected agent with rows, its socket, and a client."""

    def __init__(self, session: aiohttp.ClientSession, inspection: Inspection) -> None:
        self.inspection = inspection
        self._session = session

    async def get(self, path: str) -> tuple[int, Any]:
        async with self._session.get(f"http://agent/v1/{path}") as response:
            if response.content_type == "application/json":
                return response.status, await response.json()
            return response.status, await response.text()


def filled() -> Inspection:
    tables, kubernetes = AgentTables(), KubernetesTables()
    addresses = (ip_address("10.0.0.7"), ip_address("fd00::7"))
    tables.endpoints.writer("test").upsert(
        Endpoint(EndpointId(7), "pod", addresses, container_id="c1", namespace="shop", pod="web-0", ifname="lxc7")
    )
    tables.endpoint_identities.writer("test").upsert(EndpointIdentity(EndpointId(7), Identity(4711), ("k8s:app=web",)))
    tables.identities.writer("test").upsert(IdentityRow(Identity(4711), ("k8s:app=web",), "cluster"))
    tables.ipcache.writer("test").upsert(
        IPCacheEntry(ip_network("fd00::8/128"), Identity(4711), ip_address("172.30.0.2"), source="kubernetes")
    )
    kubernetes.cilium_nodes.writer("test").commit([CiliumNode("n1", {}), CiliumNode("n2", {})])
    inspection = Inspection(settings=Settings(), node="n1", version="1.2.3")
    inspection.add_tables([*tables, *kubernetes])
    return inspection


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    path = tmp_path / "cilium.sock"
    inspection = filled()
    runner = await serve_api(path, inspection)
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        yield Agent(session, inspection)
    await runner.cleanup()


async def test_what_the_agent_waits_for_is_its_state(agent: Agent) -> None:
    agent.inspection.stage = "waiting for Node n1 of the API server"
    status, document = await agent.get("healthz")
    assert status == 200
    assert document["cilium"] == {"state": "Failure", "msg": "waiting for Node n1 of the API server"}
    agent.inspection.stage = "ready"
    _, document = await agent.get("healthz")
    assert document["cilium"] == {"state": "Ok", "msg": "1.2.3"}
    assert document["tables"]["endpoints"] == 1


async def test_what_the_world_does_not_follow_is_an_error(agent: Agent) -> None:
    class Refusing:
        def update(self, rows: Any) -> dict[Any, str]:
            return {"a": "no room"}

        def delete(self, rows: Any) -> None: ...

        def prune(self, rows: Any) -> None: ...

    table: Table[str, str] = Table("wishes", key=lambda row: row)
    table.writer("test").upsert("a")
    reconciler = Reconciler("wishes", table=table, operations=Refusing())
    agent.inspection.add_reconcilers(reconciler)
    agent.inspection.stage = "ready"
    await reconciler.round()
    _, document = await agent.get("healthz")
    assert document["errors"] == ["wishes: a: no room"]
    assert document["cilium"]["state"] == "Warning"


async def test_documents_of_rows(agent: Agent) -> None:
    _, (endpoint,) = await agent.get("endpoint")
    assert (endpoint["id"], endpoint["status"]["state"]) == (7, "waiting-for-identity")
    assert endpoint["status"]["networking"]["addressing"] == [{"ipv4": "10.0.0.7", "ipv6": "fd00::7"}]
    assert endpoint["status"]["policy"]["ingress"] == {"state": "Pending", "enforcing": True}
    assert (await agent.get("endpoint/7"))[1] == endpoint
    assert (await agent.get("identity/4711"))[1]["labels"] == ["k8s:app=web"]
    _, (entry,) = await agent.get("ip")
    assert (entry["cidr"], entry["hostIP"]) == ("fd00::8/128", "172.30.0.2")
    _, nodes = await agent.get("cluster/nodes")
    assert {node["name"]: node["local"] for node in nodes} == {"n1": True, "n2": False}
    assert (await agent.get("config"))[1]["enable-ipv6"] == "true"


async def test_every_table_can_be_dumped(agent: Agent) -> None:
    _, tables = await agent.get("statedb")
    assert {"endpoints", "ipcache", "pods"} <= {table["name"] for table in tables}
    answers = await asyncio.gather(*(agent.get(f"statedb/{table['name']}") for table in tables))
    assert [(status, len(rows)) for status, rows in answers] == [(200, table["rows"]) for table in tables]


@pytest.mark.parametrize(
    ("path", "status", "part"),
    [
        ("endpoint/8", 404, "endpoint 8 does not exist; see cilium-dbg endpoint list"),
        ("endpoint/web", 400, "'web' is not a number"),
        ("identity/1234", 404, "identity 1234 is not known; see cilium-dbg identity list"),
        ("statedb/nonsense", 404, "table 'nonsense' does not exist; tables: attachments, "),
        ("nonsense", 404, ""),
    ],
)
async def test_what_is_not_there(agent: Agent, path: str, status: int, part: str) -> None:
    answer, text = await agent.get(path)
    assert answer == status
    assert part in text


async def test_a_socket_that_an_earlier_agent_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run" / "cilium.sock"
    first = await serve_api(path, filled())
    second = await serve_api(path, filled())
    assert path.stat().st_mode & 0o777 == 0o660
    await second.cleanup()
    await first.cleanup()


async def test_probes_and_metrics() -> None:
    inspection = filled()
    probes = await serve_probes("127.0.0.1:0", inspection)
    metrics = await serve_metrics("127.0.0.1:0")
    try:
        (host, port), (_, metrics_port) = probes.addresses[0], metrics.addresses[0]
        async with aiohttp.ClientSession() as session:
            for stage, expected in (("starting", (503, "starting\n")), ("ready", (200, "ok\n"))):
                inspection.stage = stage
                for path in ("healthz", "readyz"):
                    async with session.get(f"http://{host}:{port}/{path}") as response:
                        assert (response.status, await response.text()) == expected
            async with session.get(f"http://{host}:{metrics_port}/metrics") as response:
                assert response.status == 200
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            await serve_probes(f"127.0.0.1:{port}", inspection)
    finally:
        await probes.cleanup()
        await metrics.cleanup()


async def test_an_empty_address_serves_nobody() -> None:
    for runner in (await serve_probes("", filled()), await serve_metrics("")):
        assert runner.addresses == []
        await runner.cleanup()
