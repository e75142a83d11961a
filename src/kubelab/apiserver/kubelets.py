"""Where kubelets are, and connections to them.

Comes in: Node objects. Goes out: endpoints, HTTP sessions, connections that leave HTTP (upgrades), copied byte by byte.
A kubelet is reached by the unix socket that its Node names in the annotation `kubelab.io/kubelet-socket`, or by
InternalIP and status.daemonEndpoints.kubeletEndpoint.Port, in plain HTTP.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from aiohttp import web

from kubelab.apiserver.errors import ApiError, BadRequest, InternalError, NotFound
from kubelab.apiserver.store import Store
from kubelab.streaming.duplex import StreamDuplex, TakenOver, Upgraded, relay

SOCKET_ANNOTATION = "kubelab.io/kubelet-socket"
_CONNECT_TIMEOUT = 10.0
_MAX_HEAD = 1 << 16
_FORWARDED = ("upgrade", "connection", "x-stream-protocol-version")
"""Headers that an upgrade takes along, and everything that begins with sec-websocket-."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a kubelet listens: `socket` when not empty, else host and port."""

    node: str
    socket: str = ""
    host: str = ""
    port: int = 0

    def url(self, path: str, query: list[tuple[str, str]]) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        base = "http://kubelet" if self.socket else f"http://{host}:{self.port}"
        return f"{base}{path}?{urlencode(query)}"


def kubelet_endpoint(node: Mapping[str, Any]) -> Endpoint:
    """Raises InternalError for a node that says neither socket nor address and port."""
    name = node["metadata"]["name"]
    socket = (node["metadata"].get("annotations") or {}).get(SOCKET_ANNOTATION)
    if socket:
        return Endpoint(name, socket=socket)
    status = node.get("status") or {}
    host = next((a["address"] for a in status.get("addresses") or () if a.get("type") == "InternalIP"), "")
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port", 0)
    if not host or not port:
        raise InternalError(
            f"node {name}: no way to its kubelet: status.addresses has no InternalIP, or "
            f"status.daemonEndpoints.kubeletEndpoint.Port is not set, and there is no annotation {SOCKET_ANNOTATION}"
        )
    return Endpoint(name, host=host, port=port)


class Kubelets:
    """The kubelets of all nodes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    def of_node(self, name: str) -> Endpoint:
        node = self._store.peek("nodes", name)
        if node is None:
            raise NotFound(f'nodes "{name}" not found', kind="nodes", name=name)
        return kubelet_endpoint(node)

    def session(self, endpoint: Endpoint) -> aiohttp.ClientSession:
        """One session per unix socket, one for all TCP kubelets."""
        session = self._sessions.get(endpoint.socket)
        if session is None:
            connector: aiohttp.BaseConnector = (
                aiohttp.UnixConnector(path=endpoint.socket, limit=0)
                if endpoint.socket
                else aiohttp.TCPConnector(limit=0)
            )
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT)
            session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
            self._sessions[endpoint.socket] = session
        return session

    async def upgrade(
        self, request: web.Request, endpoint: Endpoint, path: str, query: list[tuple[str, str]]
    ) -> web.StreamResponse:
        """Hands the client's upgrade to the kubelet; once that agrees, copies bytes until one side ends.

        The kubelet speaks SPDY and WebSockets itself. A refusal becomes a Status with the kubelet's words.
        """
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                reader, writer = await self._connect(endpoint)
        except (OSError, TimeoutError) as error:
            raise unreachable(endpoint, error) from error
        kubelet = StreamDuplex(reader, writer)
        try:
            await kubelet.write(_request_head(request, path, query))
            head = await reader.readuntil(b"\r\n\r\n")
            code = int(head.split(None, 2)[1])
            if code != 101:
                raise refusal(code, await _body(reader, head))
        except (OSError, ValueError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            await kubelet.close()
            raise unreachable(endpoint, error) from error
        except ApiError:
            await kubelet.close()
            raise
        client = TakenOver(request)
        await client.write(head)
        await relay(client, kubelet)
        return Upgraded()

    async def tunnel(
        self, endpoint: Endpoint, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection into the pod network: the kubelet copies bytes. Raises OSError, ApiError with the kubelet's
        words."""
        reader, writer = await self._connect(endpoint)
        try:
            lines = [f"GET /tunnel/{quote(host, safe='')}/{port} HTTP/1.1", "Host: kubelet"]
            writer.write("\r\n".join([*lines, "Connection: Upgrade", "Upgrade: tcp", "", ""]).encode())
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            if (code := int(head.split(None, 2)[1])) != 101:
                raise refusal(code, await _body(reader, head))
        except asyncio.IncompleteReadError as error:
            writer.close()
            raise ConnectionResetError("connection reset by peer") from error
        except BaseException:
            writer.close()
            raise
        return reader, writer

    async def _connect(self, endpoint: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if endpoint.socket:
            return await asyncio.open_unix_connection(endpoint.socket, limit=_MAX_HEAD)
        return await asyncio.open_connection(endpoint.host, endpoint.port, limit=_MAX_HEAD)


def _request_head(request: web.Request, path: str, query: list[tuple[str, str]]) -> bytes:
    target = f"{path}?{urlencode(query)}" if query else path
    lines = [f"{request.method} {target} HTTP/1.1", "Host: kubelet"]
    for name, value in request.headers.items():
        if name.lower() in _FORWARDED or name.lower().startswith("sec-websocket-"):
            lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode()


async def _body(reader: asyncio.StreamReader, head: bytes) -> str:
    """What the kubelet says; its refusals are short and have a length."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return (await reader.readexactly(min(int(value), _MAX_HEAD))).decode(errors="replace")
    return ""


def refusal(code: int, text: str) -> ApiError:
    """The kubelet's answer as the API's."""
    text = text.strip() or f"the kubelet answered {code}"
    if code == 404:
        return NotFound(text)
    return BadRequest(text) if 400 <= code < 500 else InternalError(text)


def unreachable(endpoint: Endpoint, error: BaseException) -> InternalError:
    where = endpoint.socket or f"{endpoint.host}:{endpoint.port}"
    why = str(error) or type(error).__name__
    return InternalError(
        f"error dialing backend: the kubelet of node {endpoint.node} at {where} does not answer: {why}"
    )
