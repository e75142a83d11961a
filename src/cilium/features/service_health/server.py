"""Servers on the health check ports of Services, for load balancers: 200 where this node has backends, else 503.

In: rows of `health-checks`. Out: HTTP/1.1 on every address of the node, any path, as kube-proxy has it. A port is
opened and closed by the reconciler; what is answered is read from the table, so a change of backends changes no socket.
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from collections.abc import Callable, Collection, Sequence

from aiohttp import web

from cilium.features.service_health.rows import HealthCheck
from cilium.state import Table
from cilium.state.outcomes import each_async
from cilium.state.reconciler import Errors

WILDCARDS = {4: "0.0.0.0", 6: "::"}
WEIGHT = "X-Load-Balancing-Endpoint-Weight"


class HealthServers:
    """Operations of the `health-checks` reconciler. `versions`: IP versions that the node speaks; `healthy`: whether
    this node serves what its table of services says.
    """

    def __init__(
        self, *, table: Table[int, HealthCheck], versions: Collection[int], healthy: Callable[[], bool]
    ) -> None:
        self._table, self._versions, self._healthy = table, sorted(versions), healthy
        self._http = web.Server(self._answer, access_log=None)
        self._open: dict[int, list[asyncio.Server]] = {}

    async def update(self, rows: Sequence[HealthCheck]) -> Errors:
        return await each_async(rows, key=lambda row: row.port, call=lambda row: self._listen(row.port))

    async def delete(self, rows: Sequence[HealthCheck]) -> Errors:
        for row in rows:
            self._close(row.port)
        return {}

    async def prune(self, rows: Sequence[HealthCheck]) -> None:
        for port in self._open.keys() - {row.port for row in rows}:
            self._close(port)

    async def close(self) -> None:
        """All of it."""
        await self.prune(())
        await self._http.shutdown(1.0)

    async def _listen(self, port: int) -> None:
        """Raises OSError naming the port."""
        if port in self._open:
            return
        sockets: list[socket.socket] = []
        try:
            for version in self._versions:
                sockets += [_listening(port, version)]
            loop = asyncio.get_running_loop()
            self._open[port] = [await loop.create_server(self._http, sock=made) for made in sockets]
        except OSError as error:
            for made in sockets:
                made.close()
            remedy = "free it" if error.errno == errno.EADDRINUSE else "load balancers cannot ask this node"
            raise OSError(error.errno, f"port {port} of this node: {error.strerror}; {remedy}") from error

    def _close(self, port: int) -> None:
        for server in self._open.pop(port, ()):
            server.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        address = request.transport.get_extra_info("sockname") if request.transport is not None else None
        row = self._table.snapshot().get(address[1]) if address else None
        if row is None:  # a connection that was kept after its port was closed
            answer = web.Response(status=503)
            answer.force_close()
            return answer
        namespace, _, name = row.service.partition("/")
        healthy = self._healthy()
        document = {
            "service": {"namespace": namespace, "name": name},
            "localEndpoints": row.local_endpoints,
            "serviceProxyHealthy": healthy,
        }
        return web.Response(
            status=200 if row.local_endpoints and healthy else 503,
            body=json.dumps(document).encode(),
            content_type="application/json",
            headers={"X-Content-Type-Options": "nosniff", WEIGHT: str(row.local_endpoints)},
        )


def _listening(port: int, version: int) -> socket.socket:
    """On every address of one family. Raises OSError."""
    made = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if version == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((WILDCARDS[version], port))
        made.listen(128)
    except OSError:
        made.close()
        raise
    return made
