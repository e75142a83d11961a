"""The client of the Container Runtime Interface against a server that comes and goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc.aio

from kubelab.cri.client import CriClient


async def server(path: Path) -> grpc.aio.Server:
    made = grpc.aio.server()
    made.add_insecure_port(f"unix:{path}")
    await made.start()
    return made


async def test_it_tells_when_the_runtime_is_away_and_when_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "runtime.sock"
    client = CriClient(str(path))
    told = client.answers()
    try:
        async with asyncio.timeout(20):
            assert not await anext(told), "nobody has started it yet"
            first = await server(path)
            assert await anext(told)
            await first.stop(None)
            assert not await anext(told)
            second = await server(path)
            assert await anext(told)
            await second.stop(None)
    finally:
        await told.aclose()
        await client.close()
