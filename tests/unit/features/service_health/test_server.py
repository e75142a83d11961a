"""The servers on health check ports, over real sockets: answers, ports that come and go, ports that somebody has."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import aiohttp
import pytest

from cilium.features.service_health.rows import HealthCheck
from cilium.features.service_health.server import WEIGHT, HealthServers
from cilium.state import Table

HOSTS = {4: "127.0.0.1", 6: "[::1]"}


def free_port() -> int:
    with closing(socket.socket(socket.AF_INET6)) as probe:
        probe.bind(("::", 0))
        return int(probe.getsockname()[1])


class Node:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.table: Table[int, HealthCheck] = Table("health-checks", key=lambda row: row.port)
        self.writer = self.table.writer("test")
        self.healthy = True
        self.servers = HealthServers(table=self.table, versions=(4, 6), healthy=lambda: self.healthy)
        self.session = session

    async def ask(
        self, port: int, path: str = "/healthz", version: int = 4, method: str = "GET"
    ) -> tuple[int, Any, str]:
        async with self.session.request(method, f"http://{HOSTS[version]}:{port}{path}") as response:
            body = await response.json() if method == "GET" else await response.text()
            return response.status, body, response.headers[WEIGHT]

    async def put(self, *rows: HealthCheck) -> Any:
        self.writer.commit(rows)
        return await self.servers.update(rows)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with aiohttp.ClientSession() as session:
        made = Node(session)
        yield made
    await made.servers.close()


@pytest.mark.parametrize("version", [4, 6])
async def test_who_has_backends_says_so_in_both_families(node: Node, version: int) -> None:
    port = free_port()
    assert await node.put(HealthCheck(port, "shop/web", 2)) == {}
    status, body, weight = await node.ask(port, version=version)
    assert (status, weight) == (200, "2")
    assert body == {"service": {"namespace": "shop", "name": "web"}, "localEndpoints": 2, "serviceProxyHealthy": True}
    assert (await node.ask(port, "/", version=version))[0] == 200, "whatever the path"
    assert await node.ask(port, version=version, method="HEAD") == (200, "", "2")


async def test_what_is_answered_follows_the_table(node: Node) -> None:
    port = free_port()
    await node.put(HealthCheck(port, "shop/web", 0))
    status, body, weight = await node.ask(port)
    assert (status, body["localEndpoints"], weight) == (503, 0, "0")
    node.writer.upsert(HealthCheck(port, "shop/web", 1))
    assert (await node.ask(port))[0] == 200
    node.healthy = False
    status, body, _ = await node.ask(port)
    assert (status, body["serviceProxyHealthy"]) == (503, False)


async def test_ports_are_told_apart(node: Node) -> None:
    first, second = free_port(), free_port()
    await node.put(HealthCheck(first, "shop/web", 1), HealthCheck(second, "shop/api", 0))
    assert [(await node.ask(port))[1]["service"]["name"] for port in (first, second)] == ["web", "api"]
    assert [(await node.ask(port))[0] for port in (first, second)] == [200, 503]


async def test_a_port_is_closed_with_its_row(node: Node) -> None:
    first, second = free_port(), free_port()
    rows = [HealthCheck(first, "shop/web", 1), HealthCheck(second, "shop/api", 1)]
    await node.put(*rows)
    assert await node.servers.update(rows) == {}, "again is no error"
    assert (await node.ask(first))[0] == 200
    node.writer.commit(deletes=[first])
    assert await node.servers.delete(rows[:1]) == {}
    assert await node.servers.delete(rows[:1]) == {}
    with pytest.raises(aiohttp.ClientConnectorError):
        async with aiohttp.ClientSession() as fresh, fresh.get(f"http://127.0.0.1:{first}/"):
            pass
    assert (await node.ask(second))[0] == 200
    await node.servers.prune([])
    with pytest.raises(aiohttp.ClientConnectorError):
        async with aiohttp.ClientSession() as fresh, fresh.get(f"http://127.0.0.1:{second}/"):
            pass


async def test_a_connection_that_outlives_its_port_is_told(node: Node) -> None:
    port = free_port()
    await node.put(HealthCheck(port, "shop/web", 1))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = b"GET / HTTP/1.1\r\nHost: n1\r\n\r\n"
    writer.write(request)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    node.writer.commit(deletes=[port])
    await node.servers.delete([HealthCheck(port, "shop/web", 1)])
    writer.write(request)
    answer = await reader.read()  # until the server closes
    assert b"HTTP/1.1 503 " in answer
    assert b"Connection: close" in answer
    writer.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_port_that_somebody_has_is_named_and_the_others_open(node: Node, host: str) -> None:
    """In either family; and it opens once it is free."""
    taken, port = free_port(), free_port()
    rows = [HealthCheck(taken, "shop/web", 1), HealthCheck(port, "shop/api", 1)]
    with closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as rude:
        rude.bind((host, taken))
        rude.listen(1)
        errors = await node.put(*rows)
        assert set(errors) == {taken}
        assert f"port {taken} of this node: Address already in use; free it" in str(errors[taken])
        assert (await node.ask(port))[0] == 200
    assert await node.servers.update(rows) == {}
    assert (await node.ask(taken))[0] == 200
    assert (await node.ask(taken, version=6))[0] == 200
