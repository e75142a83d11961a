"""A running API server and a client with its certificate, for tests of what goes over the wire."""

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import aiohttp

from kubelab.apiserver.server import ApiServer

MERGE = {"Content-Type": "application/merge-patch+json"}
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def context(server: ApiServer, directory: Path, *, known: bool = True) -> ssl.SSLContext:
    made = ssl.create_default_context(cadata=server.authority.certificate.decode())
    if known:
        pair = server.authority.client("admin", groups=["system:masters"])
        path = directory / "client.pem"
        path.write_bytes(pair.certificate + pair.key)
        made.load_cert_chain(path)
    return made


async def body(http: aiohttp.ClientSession, method: str, path: str, *, status: int = 200, **options: Any) -> Any:
    async with http.request(method, path, **options) as response:
        text = await response.text()
        assert response.status == status, text
        return json.loads(text)


async def make(http: aiohttp.ClientSession, *names: str) -> None:
    for name in names:
        await body(http, "POST", CONFIG_MAPS, status=201, json={"metadata": {"name": name, "labels": {"n": name}}})


async def read_events(response: aiohttp.ClientResponse, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(10):
        return [json.loads(await response.content.readline()) for _ in range(count)]
