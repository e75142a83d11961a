"""The one client of the API server: bytes in, bytes out.

In: paths, parameters, bodies. Out: bodies and streams, or Unreachable and ApiError. It keeps connections, speaks TLS,
presents the token (read anew, for it rotates) and tries again what can be tried again without harm.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from cilium.protocols.kubernetes import parse_status
from cilium.sources.kubernetes.config import ClientConfig
from cilium.sources.kubernetes.errors import ApiError, ConfigError, Unreachable

TOKEN_SECONDS = 60.0
"""How long a token that was read is used; the kubelet replaces it well before it expires."""
ATTEMPTS = 4
PAUSE = 0.1
"""Seconds before the second attempt; doubles."""

Parameters = Mapping[str, str]
Failures = (aiohttp.ClientError, TimeoutError, OSError)


class Client:
    """Use as `async with Client(config) as client`. `timeout`: seconds for one request and its answer; `keep`:
    connections are used again.
    """

    def __init__(
        self, config: ClientConfig, *, user_agent: str = "cilium", timeout: float = 30.0, keep: bool = True
    ) -> None:
        self.server = config.server
        self._keep = keep
        self._config = config
        self._headers = {"User-Agent": user_agent, "Accept": "application/json"}
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, 10.0))
        self._session: aiohttp.ClientSession | None = None
        self._token = _Token(config)

    async def __aenter__(self) -> Self:
        tls = self._config.tls()
        keeping = {"keepalive_timeout": 60} if self._keep else {"force_close": True}
        connector = aiohttp.TCPConnector(
            ssl=tls if tls is not None else True, socket_factory=_lively_socket, limit=0, **keeping
        )
        self._session = aiohttp.ClientSession(connector=connector, headers=self._headers, timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        parameters: Parameters | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """One request, up to four times if the connection fails or the server is busy (429), once if it times out.

        A POST is not repeated once it may have arrived: its caller could not tell whose object the second one found.
        Raises ApiError, Unreachable.
        """
        headers = {"Content-Type": content_type} if body is not None else {}
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS
            pause = PAUSE * 2 ** (attempt - 1)
            try:
                async with self._call(method, path, parameters, headers, data=body) as response:
                    content = await response.read()
                    if response.status < 400:
                        return content
                    if response.status != 429 or last:
                        raise self._refusal(method, path, response, content)
                    pause = max(pause, _retry_after(response))
            except Failures as error:
                harmless = method != "POST" or isinstance(error, aiohttp.ClientConnectorError)
                if last or not harmless or isinstance(error, TimeoutError):
                    raise self._unreachable(method, path, error) from error
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    @asynccontextmanager
    async def stream(self, path: str, *, parameters: Parameters, silence: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """GET whose body arrives over time, chunk by chunk. `silence`: seconds without a byte after which it is dead.

        Raises ApiError, Unreachable, also while iterating. Not repeated: the caller knows where to resume.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=silence)
        try:
            async with self._call("GET", path, parameters, {}, timeout=timeout) as response:
                if response.status >= 400:
                    raise self._refusal("GET", path, response, await response.read())
                yield response.content.iter_any()
        except Failures as error:
            raise self._unreachable("GET", path, error) from error

    async def channel(self, path: str, *, parameters: list[tuple[str, str]]) -> AsyncIterator[bytes]:
        """The binary messages of a WebSocket that the server ends. Raises ApiError, Unreachable."""
        if self._session is None:
            raise RuntimeError("the client is not open: use `async with`")
        token = self._token.read()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = URL(self.server + path).update_query(parameters)
        try:
            async with self._session.ws_connect(url, protocols=("v5.channel.k8s.io",), headers=headers) as socket:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.BINARY:
                        yield message.data
        except aiohttp.WSServerHandshakeError as error:
            raise ApiError(error.status, "Refused", error.message, request=f"GET {path}") from error
        except Failures as error:
            raise self._unreachable("GET", path, error) from error

    def _call(
        self, method: str, path: str, parameters: Parameters | None, headers: dict[str, str], **options: Any
    ) -> aiohttp.client._RequestContextManager:
        if self._session is None:
            raise RuntimeError("the client is not open: use `async with`")
        token = self._token.read()
        if token:
            headers = headers | {"Authorization": f"Bearer {token}"}
        # Encoded once, by aiohttp: selectors contain = and , which must arrive as they are.
        url = URL(self.server + path).update_query(parameters or {})
        server_hostname = self._config.tls_server_name or None
        return self._session.request(method, url, headers=headers, server_hostname=server_hostname, **options)

    def _refusal(self, method: str, path: str, response: aiohttp.ClientResponse, content: bytes) -> ApiError:
        if response.status == 401:
            self._token.forget()
        status = parse_status(content)
        message = status.message or content[:200].decode(errors="replace").strip() or "no message"
        reason = status.reason or response.reason or "Unknown"
        return ApiError(response.status, reason, message, request=f"{method} {path}")

    def _unreachable(self, method: str, path: str, error: BaseException) -> Unreachable:
        what = str(error) or type(error).__name__
        return Unreachable(f"{method} {self.server}{path}: {what}")


class _Token:
    """The bearer token, read from its file at most once a minute."""

    def __init__(self, config: ClientConfig) -> None:
        self._fixed = config.token
        self._file: Path | None = config.token_file
        self._token = ""
        self._read_at = float("-inf")

    def read(self) -> str:
        """Raises ConfigError if there is a file but it never could be read."""
        if self._file is None:
            return self._fixed
        now = time.monotonic()
        if now - self._read_at >= TOKEN_SECONDS:
            try:
                self._token = self._file.read_text().strip()
                self._read_at = now
            except OSError as error:
                # The kubelet swaps the file; the token read before is good for some time yet.
                if not self._token:
                    raise ConfigError(f"service account token {self._file}: {error.strerror}") from error
        return self._token

    def forget(self) -> None:
        """The server did not accept it: read the file again next time."""
        self._read_at = float("-inf")


def _lively_socket(address: Any) -> socket.socket:
    """A watch may be silent for minutes: keep-alives find out within half a minute that the other side is gone."""
    family, kind, protocol, _, _ = address
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)
    return sock


def _retry_after(response: aiohttp.ClientResponse) -> float:
    try:
        return min(float(response.headers.get("Retry-After", "0")), 10.0)
    except ValueError:
        return 0.0
