"""From the node into the pod network: HTTP for pods/proxy and services/proxy, connections for webhooks.

In: requests of the API server to ``/proxy/{scheme}/{host}/{port}/{path}`` and ``/tunnel/{host}/{port}``. Out: the
answer of who listens there.
"""

from __future__ import annotations

import asyncio
import os
import ssl

import aiohttp
from aiohttp import web
from yarl import URL

from kubelab.streaming.duplex import StreamDuplex, TakenOver, Upgraded, relay, switching

_HOP_BY_HOP = frozenset(("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host"))
_CONNECT_TIMEOUT = 10.0


class Pages:
    """One HTTP session, made when the first request wants it."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The answer, streamed; 503 with the reason when nobody answers."""
        info = request.match_info
        host = f"[{info['host']}]" if ":" in info["host"] else info["host"]
        path = request.rel_url.raw_path.split("/", 5)
        url = f"{info['scheme']}://{host}:{info['port']}/{path[5] if len(path) > 5 else ''}"
        if request.rel_url.raw_query_string:
            url += f"?{request.rel_url.raw_query_string}"
        try:
            if request.headers.get("Upgrade"):
                return await _upgrade(request, info["host"], int(info["port"]), url)
            return await self._copy(request, url)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            message = f"error trying to reach service: {error}"
            status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
                      "reason": "ServiceUnavailable", "code": 503}  # fmt: skip
            return web.json_response(status, status=503)

    async def tunnel(self, request: web.Request) -> web.StreamResponse:
        """A connection: bytes are copied both ways. 502 with the reason when nobody listens."""
        info = request.match_info
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                reader, writer = await asyncio.open_connection(info["host"], int(info["port"]))
        except (OSError, TimeoutError, ValueError) as error:
            raise web.HTTPBadGateway(text=_reason(error)) from error
        client = TakenOver(request)
        await client.write(switching(("Connection", "Upgrade"), ("Upgrade", "tcp")))
        await relay(client, StreamDuplex(reader, writer))
        return Upgraded()

    async def _copy(self, request: web.Request, url: str) -> web.StreamResponse:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT)
            connector = aiohttp.TCPConnector(ssl=False, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP]
        body = await request.read() if request.can_read_body else None
        target = URL(url, encoded=True)
        async with self._session.request(
            request.method, target, headers=headers, data=body, allow_redirects=False
        ) as upstream:
            response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
            response.headers.extend([(k, v) for k, v in upstream.headers.items() if k.lower() not in _HOP_BY_HOP])
            await response.prepare(request)
            async for chunk in upstream.content.iter_any():
                await response.write(chunk)
            return response


async def _upgrade(request: web.Request, host: str, port: int, url: str) -> web.StreamResponse:
    """Leaves HTTP to the two: their bytes are copied."""
    target = URL(url, encoded=True)
    reader, writer = await asyncio.open_connection(host, port, ssl=_unverified() if target.scheme == "https" else None)
    lines = [f"{request.method} {target.raw_path_qs} HTTP/1.1", f"Host: {target.authority}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items() if name.lower() != "host"]
    server = StreamDuplex(reader, writer)
    await server.write("\r\n".join([*lines, "", ""]).encode())
    await relay(TakenOver(request), server)
    return Upgraded()


def _reason(error: BaseException) -> str:
    """As Go programs say it."""
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if number and number > 0 else str(error)


def _unverified() -> ssl.SSLContext:
    """Servers of pods have certificates of all kinds: like the real API server, we do not ask for whom."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
