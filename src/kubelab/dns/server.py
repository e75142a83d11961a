"""The name server: a Corefile that may change, and sockets that stay.

In: the path of a Corefile. Out: answers on its ports until the server is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
from pathlib import Path

import dns.rdataclass
from dns.rcode import Rcode
from dns.rdataclass import RdataClass

from kubelab.dns.chain import Configuration
from kubelab.dns.corefile import PORT, CorefileError, parse
from kubelab.dns.listeners import Answer, BindError, Listener
from kubelab.dns.wire import Protocol, Query, Response, decode, encode


class Server:
    """One process's server. `async with` starts and stops it."""

    def __init__(self, path: Path, *, port: int = PORT) -> None:
        self._path, self._port = path, port
        self._digest = ""
        self._configuration: Configuration | None = None
        self._listeners: dict[tuple[str, int], Listener] = {}
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Server:
        """Raises CorefileError, BindError, OSError."""
        text = self._read()
        await self._take(text)
        self._watching = asyncio.ensure_future(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watching is not None:
            self._watching.cancel()
        for listener in self._listeners.values():
            await listener.close()
        if self._configuration is not None:
            await self._configuration.stop()

    @property
    def places(self) -> list[tuple[str, int]]:
        """Addresses and ports in use."""
        return [(listener.address, listener.port) for listener in self._listeners.values()]

    async def lame(self) -> None:
        """What is still to be done while queries are answered, before the end."""
        if self._configuration is not None:
            await asyncio.gather(*(plugin.lame() for plugin in self._configuration.plugins))

    async def reload(self) -> bool:
        """Takes the Corefile if it has changed and is good; otherwise the old one stays. Whether it was taken."""
        try:
            text = self._read()
            if self._digest == _digest(text):
                return False
            print(f"[INFO] Reloading {self._path}", flush=True)
            await self._take(text)
        except (OSError, CorefileError, BindError) as error:
            self._digest = _digest(text) if "text" in locals() else self._digest  # told once
            print(f"[ERROR] Corefile changed but reload failed: {error}", flush=True)
            return False
        print("[INFO] Reloading complete", flush=True)
        return True

    def _read(self) -> str:
        return self._path.read_text()

    async def _take(self, text: str) -> None:
        fresh = Configuration(parse(text, os.environ, str(self._path)), self._path)
        await fresh.start()
        opened: list[tuple[str, int]] = []
        try:
            for address, port in fresh.ports:
                if (address, port) not in self._listeners:
                    self._listeners[address, port] = await self._listen(address, port)
                    opened.append((address, port))
        except BindError:
            for place in opened:
                await self._listeners.pop(place).close()
            await fresh.stop()
            raise
        old, self._configuration = self._configuration, fresh
        self._digest = _digest(text)
        for place in set(self._listeners) - set(fresh.ports):
            await self._listeners.pop(place).close()
        if old is not None:
            await old.stop()

    async def _listen(self, address: str, port: int) -> Listener:
        actual = self._port if port == PORT else port
        return await Listener.open(address, actual, self._answerer(port))

    def _answerer(self, port: int) -> Answer:
        async def answer(data: bytes, peer: str, source: int, protocol: Protocol) -> bytes | None:
            query = decode(data, peer, source, protocol)
            return await self._answer(query, port) if isinstance(query, Query) else query

        return answer

    async def _answer(self, query: Query, port: int) -> bytes:
        assert self._configuration is not None
        found = self._configuration.find(query.name, port)
        if found is None or query.klass not in (RdataClass.IN, dns.rdataclass.ANY):
            return encode(query, Response(Rcode.REFUSED))
        return await found[0].answer(found[1], query)

    async def _watch(self) -> None:
        while True:
            assert self._configuration is not None
            interval, jitter = self._configuration.shared.get("reload", (0.0, 0.0))
            if not interval:
                return
            await asyncio.sleep(interval + random.uniform(0, jitter))
            with contextlib.suppress(asyncio.InvalidStateError):
                await self.reload()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
