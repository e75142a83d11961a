"""Follows one collection of the API for as long as it runs.

In: a watch state machine that says what to do, a client that does it. Out: a feed's table, its initializer called after
the first complete list, and the health of the connection. Whatever happens to the API server, rows are only deleted
because it said so.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Hashable
from typing import Generic, TypeVar

import msgspec
import structlog

from cilium.protocols.kubernetes import Backoff, List, Stage, Wait, Watch, Watcher, WatchError
from cilium.sources.kubernetes.client import Client
from cilium.sources.kubernetes.errors import KubernetesError
from cilium.sources.kubernetes.feed import Feed

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

RETRY_MIN, RETRY_MAX = 0.1, 5.0
"""Seconds between attempts. Short, for pods wait; a reflector is one small request."""
GRACE = 15.0
"""Seconds of silence past the end the server announced, after which a stream is dead."""

log = structlog.get_logger("kubernetes")


class Health(msgspec.Struct, frozen=True):
    """How one reflector is, for status commands."""

    resource: str
    connected: bool
    """The last request succeeded."""
    listed: bool
    """Everything was seen at least once."""
    objects: int
    quarantined: int
    resource_version: str
    error: str
    """Of the last request that failed; empty once one succeeded."""
    since: float
    """Seconds since the Unix epoch of the last change between connected and not."""
    failures: int = 0
    """Requests that failed since the start; a version that is too old is none."""


class Reflector(Generic[K, R]):
    """`run()` is the task. `done` is the initializer of the table."""

    def __init__(
        self,
        resource: str,
        *,
        client: Client,
        path: str,
        feed: Feed[K, R],
        done: Callable[[], None],
        selectors: dict[str, str] | None = None,
        watch_timeout: float = 300.0,
        page_size: int = 500,
    ) -> None:
        self.resource = resource
        self.feed = feed
        self._client = client
        self._path = path
        self._done = done
        self._watcher = Watcher(
            backoff=Backoff(minimum=RETRY_MIN, maximum=RETRY_MAX, random=random.random),
            selectors=selectors,
            page_size=page_size,
            # Spread, so that the watches of a node do not end together.
            watch_timeout=watch_timeout * random.uniform(1.0, 1.5),
        )
        self._connected = False
        self._listed = False
        self._error = ""
        self._failures = 0
        self._since = time.time()

    @property
    def health(self) -> Health:
        return Health(
            resource=self.resource,
            connected=self._connected,
            listed=self._listed,
            objects=len(self.feed),
            quarantined=len(self.feed.quarantine),
            resource_version=self._watcher.resource_version,
            error=self._error,
            since=self._since,
            failures=self._failures,
        )

    async def run(self) -> None:
        """Never returns; failures of the API server are waited out."""
        while True:
            match self._watcher.action(time.monotonic()):
                case Wait(until):
                    await asyncio.sleep(until - time.monotonic())
                case List(parameters):
                    await self._attempt(self._list(parameters))
                case Watch(parameters, timeout):
                    await self._attempt(self._watch(parameters, timeout))

    async def _attempt(self, step: Coroutine[None, None, None]) -> None:
        try:
            await step
        except (KubernetesError, WatchError, msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            self._failed(error)

    async def _list(self, parameters: dict[str, str]) -> None:
        body = await self._client.request("GET", self._path, parameters=parameters)
        listing = self._watcher.listed(body)
        self.feed.page(listing.objects, first=listing.first, last=listing.last)
        self._succeeded()
        if listing.last:
            self._listed = True
            self._done()

    async def _watch(self, parameters: dict[str, str], timeout: float) -> None:
        async with self._client.stream(self._path, parameters=parameters, silence=timeout + GRACE) as chunks:
            self._watcher.opened(time.monotonic())
            self._succeeded()
            async for chunk in chunks:
                self.feed.events(self._watcher.receive(chunk))
        self._watcher.ended(time.monotonic())

    def _succeeded(self) -> None:
        if not self._connected:
            self._connected, self._since = True, time.time()
            if self._error:
                log.info("reflector is back", resource=self.resource)
            self._error = ""

    def _failed(self, error: Exception) -> None:
        code = getattr(error, "status", 0) or getattr(error, "code", 0)
        relisting = self._watcher.stage is Stage.WATCHING and code == 410
        self._watcher.failed(time.monotonic(), code)
        if relisting:
            log.info("version too old, listing anew", resource=self.resource)
            return
        self._failures += 1
        text = str(error) or type(error).__name__
        if self._connected or text != self._error:
            log.warning("reflector lost the API server", resource=self.resource, error=text)
        if self._connected:
            self._connected, self._since = False, time.time()
        self._error = text
