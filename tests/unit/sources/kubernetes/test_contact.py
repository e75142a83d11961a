"""Contact: any answer counts, on a connection that was there and on a new one; silence does not."""

from __future__ import annotations

import asyncio

from unit.sources.kubernetes.fake_api import FakeAPI

from cilium.sources.kubernetes.config import ClientConfig
from cilium.sources.kubernetes.contact import Contact


async def test_any_answer_is_contact() -> None:
    async with FakeAPI() as api, Contact(ClientConfig(server=api.url)) as contact:
        assert await contact(), "404 is an answer"
        api.refuse["GET /version"] = (403, {"reason": "Forbidden"})
        assert await contact()


async def test_silence_and_refusal_are_none_and_it_comes_back() -> None:
    async with FakeAPI() as api, Contact(ClientConfig(server=api.url), timeout=0.2) as contact:
        api.hang = asyncio.Event()
        assert not await contact()
        api.hang.set()
        api.hang = None
        assert await contact()
        await api.stop()
        assert not await contact()
        await api.start()
        assert await contact()


async def test_one_connection_is_kept_and_one_is_new() -> None:
    connections = 0

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /version "):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Contact(ClientConfig(server=f"http://127.0.0.1:{port}")) as contact:
        for _ in range(3):
            assert await contact()
    assert connections == 1 + 3
