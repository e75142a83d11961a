"""Which endpoint lives in a network namespace: records of sockets tell of the namespace by its cookie.

Owns: `Namespaces`. Comes in: endpoints as they come and go, and the cookies of their namespaces, which the kernel tells
inside. Goes out: the endpoint for a cookie; one that is gone is still known for a while, and no cookie is given twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from cilium.datapath.netlink.netns import NamespaceError, netns_cookie, netns_cookie_at
from cilium.hubble.remembering import Remembering
from cilium.tables.endpoints import Endpoint

log = structlog.get_logger(__name__)


class Namespaces:
    """`cookie_at` reads the cookie of the namespace at a path, `own` that of the node's, where the agent lives. Both
    raise NamespaceError."""

    def __init__(
        self, *, cookie_at: Callable[[str], int] = netns_cookie_at, own: Callable[[], int] = netns_cookie
    ) -> None:
        self._cookie_at = cookie_at
        self._of_cookie: Remembering[int, Endpoint] = Remembering()
        self._cookies: dict[int, int] = {}
        """By endpoint id."""
        self._unread: dict[int, Endpoint] = {}
        try:
            self._own = own()
        except NamespaceError:  # sockets have no cookies before Linux 5.14, nor are they translated then
            self._own = 0

    @property
    def unread(self) -> bool:
        """`settle` has something to do."""
        return bool(self._unread)

    def learn(self, endpoint: Endpoint) -> None:
        """It came, or changed."""
        cookie = self._cookies.get(endpoint.id)
        if endpoint.kind == "host":
            cookie = self._own
        elif cookie is not None and self._of_cookie[cookie].netns != endpoint.netns:
            self.forget(endpoint.id)
            cookie = None
        if cookie:
            self._know(cookie, endpoint)
        elif endpoint.netns:
            self._unread[endpoint.id] = endpoint

    def forget(self, number: int) -> None:
        """Endpoint `number` is gone."""
        self._unread.pop(number, None)
        cookie = self._cookies.pop(number, None)
        if cookie is not None:
            self._of_cookie.forget(cookie)

    async def settle(self) -> None:
        """Ask for the cookies of endpoints that came; their pods may go meanwhile."""
        while self._unread:
            asked = dict(self._unread)
            cookies = await asyncio.to_thread(self._read, asked)
            for number, endpoint in asked.items():
                cookie = cookies.get(number)
                if self._unread.get(number) is endpoint:
                    del self._unread[number]
                    if cookie:
                        self._know(cookie, endpoint)

    def endpoint(self, cookie: int) -> Endpoint | None:
        return self._of_cookie.recall(cookie)

    def _know(self, cookie: int, endpoint: Endpoint) -> None:
        self._cookies[endpoint.id] = cookie
        self._of_cookie.learn(cookie, endpoint)

    def _read(self, endpoints: Mapping[int, Endpoint]) -> dict[int, int]:
        found = {}
        for number, endpoint in endpoints.items():
            try:
                found[number] = self._cookie_at(endpoint.netns)
            except NamespaceError as error:
                log.info("flows of its sockets will name no pod", endpoint=number, error=str(error))
        return found
