"""The kubelet's side of the Kubernetes API: requests, and list-and-watch that resumes.

In: server address and client certificate. Out: decoded objects, ApiError with the server's own message.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
import structlog

from kubelab.kubelet.config import KubeletConfig, Object

log = structlog.get_logger(__name__)

BACKOFF_MIN, BACKOFF_MAX = 0.1, 5.0
GONE = 410


class ApiError(Exception):
    """The API server refused; ``code`` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """``replace`` carries the whole list after every (re)list, the others one object."""

    kind: Literal["replace", "upsert", "delete"]
    objects: list[Object]


class ApiClient:
    """One HTTPS session. ``async with`` closes it."""

    def __init__(self, config: KubeletConfig) -> None:
        self._server = config.server
        context = ssl.create_default_context(cafile=config.ca)
        context.load_cert_chain(config.certificate, config.key)
        self._ssl = context
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> ApiClient:
        connector = aiohttp.TCPConnector(ssl=self._ssl, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_connect=10)
        # The API server names the writer of fields by it.
        agent = {"User-Agent": "kubelet"}
        self._session = aiohttp.ClientSession(self._server, connector=connector, timeout=timeout, headers=agent)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def request(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", **query: str
    ) -> Object:
        """One request. Raises ApiError, aiohttp.ClientError, TimeoutError."""
        assert self._session is not None, "use the client as a context manager"
        data = None if body is None else json.dumps(body)
        headers = {} if body is None else {"Content-Type": content_type}
        timeout = aiohttp.ClientTimeout(total=30)
        async with self._session.request(
            method, path, data=data, headers=headers, params=query, timeout=timeout
        ) as response:
            text = await response.text()
            if response.status >= 400:
                raise ApiError(response.status, _message(text))
            return json.loads(text) if text else {}

    async def get(self, path: str) -> Object:
        return await self.request("GET", path)

    async def patch(self, path: str, body: Object) -> Object:
        """JSON merge patch (RFC 7386)."""
        return await self.request("PATCH", path, body, content_type="application/merge-patch+json")

    async def list_and_watch(self, path: str, **query: str) -> AsyncIterator[WatchEvent]:
        """The collection first, then every change, for ever; a lost connection is resumed, a lost history relisted."""
        backoff, version = BACKOFF_MIN, ""
        while True:
            try:
                if not version:
                    answer = await self.request("GET", path, **query)
                    version = answer["metadata"]["resourceVersion"]
                    yield WatchEvent("replace", answer.get("items") or [])
                async for kind, item in self._watch(path, version, query):
                    backoff = BACKOFF_MIN
                    version = item["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        yield WatchEvent("delete" if kind == "DELETED" else "upsert", [item])
            except ApiError as error:
                log.warning("watch refused", path=path, error=str(error))
                version = ""
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if backoff == BACKOFF_MIN:  # once per interruption, not per attempt
                    log.warning("watch interrupted", path=path, error=str(error) or repr(error))
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, BACKOFF_MAX)

    async def _watch(self, path: str, version: str, query: dict[str, str]) -> AsyncIterator[tuple[str, Object]]:
        assert self._session is not None
        params = {**query, "watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        async with self._session.get(path, params=params) as response:
            if response.status >= 400:
                raise ApiError(response.status, _message(await response.text()))
            pending = b""
            async for chunk in response.content.iter_any():
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    if not line.strip():
                        continue
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise ApiError(status.get("code", GONE), status.get("message", "watch error"))
                    yield event["type"], event["object"]


def _message(text: str) -> str:
    try:
        return str(json.loads(text).get("message", text))
    except (ValueError, AttributeError):
        return text.strip()[:500]
