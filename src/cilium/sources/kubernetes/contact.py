"""Whether the API server answers, asked by small requests.

In: how to reach it. Out: yes or no, within two seconds: yes if both a connection that has been there for a while and
a new one carry an answer, whatever it says. A firewall may let only one of the two through.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from cilium.sources.kubernetes.client import Client
from cilium.sources.kubernetes.config import ClientConfig
from cilium.sources.kubernetes.errors import ApiError, ConfigError, Unreachable

TIMEOUT = 2.0
PATH = "/version"
"""Everybody may read it."""


class Contact:
    """Use as `async with Contact(config) as contact`, and ask `await contact()`."""

    def __init__(self, config: ClientConfig, *, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._clients = [
            Client(config, user_agent="cilium-agent", timeout=timeout),
            Client(config, user_agent="cilium-agent", timeout=timeout, keep=False),
        ]

    async def __aenter__(self) -> Self:
        for client in self._clients:
            await client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            await client.__aexit__(kind, error, trace)

    async def __call__(self) -> bool:
        return all(await asyncio.gather(*map(self._answers, self._clients)))

    async def _answers(self, client: Client) -> bool:
        try:
            async with asyncio.timeout(self._timeout):
                await client.request("GET", PATH)
        except ApiError:
            return True
        except (Unreachable, ConfigError, TimeoutError):
            return False
        return True
