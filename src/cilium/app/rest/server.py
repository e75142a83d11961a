"""The agent's API on its unix socket, read by cilium-dbg.

In: an Inspection. Out: JSON documents under /v1. Everything is read from snapshots; nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from cilium.app.inspection import Inspection
from cilium.app.rest import documents, policies, redirects, selectors, services, verdicts
from cilium.settings import split_address, to_config_map
from cilium.settings.model import schema
from cilium.state import dump


class Api:
    """Handlers, one per resource."""

    def __init__(self, agent: Inspection) -> None:
        self._agent = agent

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/healthz", self._of(lambda: documents.status(self._agent))),
            web.get("/v1/health", self._of(lambda: documents.health(self._agent))),
            web.get("/v1/endpoint", self._of(lambda: documents.endpoints(self._agent))),
            web.get("/v1/endpoint/{id}", self.endpoint),
            web.get("/v1/identity", self._of(lambda: self._rows("identities", documents.identity))),
            web.get("/v1/identity/{id}", self.identity),
            web.get("/v1/ip", self._of(lambda: self._rows("ipcache", documents.ip))),
            web.get("/v1/service", self._of(lambda: services.documents(self._agent))),
            web.get("/v1/lrp", self._of(lambda: redirects.documents(self._agent))),
            web.get("/v1/policy", self._of(lambda: policies.documents(self._agent))),
            web.get("/v1/policy/selectors", self._of(lambda: selectors.documents(self._agent))),
            web.get("/v1/policy/verdict", self.verdict),
            web.get("/v1/cluster/nodes", self._of(self._nodes)),
            web.get("/v1/config", self._of(self._config)),
            web.get("/v1/config/origins", self._of(self._origins)),
            web.get("/v1/statedb", self._of(self._tables)),
            web.get("/v1/statedb/{table}", self.table),
        ]

    async def endpoint(self, request: web.Request) -> web.Response:
        row = documents.get(self._agent, "endpoints", _number(request))
        if row is None:
            raise _missing(f"endpoint {request.match_info['id']} does not exist; see cilium-dbg endpoint list")
        return _json(documents.endpoint(self._agent, row))

    async def identity(self, request: web.Request) -> web.Response:
        row = documents.get(self._agent, "identities", _number(request))
        if row is None:
            raise _missing(f"identity {request.match_info['id']} is not known; see cilium-dbg identity list")
        return _json(documents.identity(row))

    async def verdict(self, request: web.Request) -> web.Response:
        if not self._agent.ready:
            raise web.HTTPServiceUnavailable(text=self._agent.stage + "\n")
        try:
            return _json(verdicts.verdict(self._agent, request.query))
        except verdicts.QuestionError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None

    async def table(self, request: web.Request) -> web.Response:
        name = request.match_info["table"]
        table = self._agent.tables.get(name)
        if table is None:
            raise _missing(f"table {name!r} does not exist; tables: {', '.join(sorted(self._agent.tables))}")
        return _json(dump(table, enc_hook=str))

    def _of(self, document: Callable[[], Any]) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.Response:
            return _json(document())

        return handler

    def _rows(self, table: str, render: Callable[[Any], Any]) -> list[Any]:
        return [render(row) for row in documents.rows(self._agent, table)]

    def _nodes(self) -> list[Any]:
        return [documents.node(row, local=self._agent.node) for row in documents.rows(self._agent, "cilium-nodes")]

    def _tables(self) -> list[Any]:
        return [
            {"name": name, "rows": len(table), "revision": table.revision, "initialized": table.initialized}
            for name, table in sorted(self._agent.tables.items())
        ]

    def _config(self) -> Any:
        return to_config_map(self._agent.settings)

    def _origins(self) -> Any:
        """Where the value of a key is from; keys with their default are absent."""
        origins = self._agent.settings.origins
        return {entry.setting.key: origins[entry.name] for entry in schema() if entry.name in origins}


def _number(request: web.Request) -> int:
    text = request.match_info["id"]
    if not text.isdecimal():
        raise web.HTTPBadRequest(text=f"{text!r} is not a number\n")
    return int(text)


def _missing(text: str) -> web.HTTPNotFound:
    return web.HTTPNotFound(text=text + "\n")


def _json(document: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(document, enc_hook=str), content_type="application/json")


async def serve_api(path: Path, agent: Inspection) -> web.AppRunner:
    """Starts serving on the unix socket; the caller cleans the runner up."""
    runner = await _runner(Api(agent).routes())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # noqa: ASYNC240 - at the start, before anybody waits
    await web.UnixSite(runner, str(path)).start()
    path.chmod(0o660)  # noqa: ASYNC240
    return runner


async def serve_probes(address: str, agent: Inspection) -> web.AppRunner:
    """/healthz and /readyz: 200 once the process serves, 503 with what it waits for before. See `_listen`."""

    async def healthz(request: web.Request) -> web.Response:
        if agent.ready:
            return web.Response(text="ok\n")
        return web.Response(status=503, text=agent.stage + "\n")

    runner = await _runner([web.get("/healthz", healthz), web.get("/readyz", healthz)])
    await _listen(runner, address)
    return runner


async def serve_metrics(address: str, *collectors: Collector) -> web.AppRunner:
    """/metrics in Prometheus' text format. See `_listen`."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    runner = await _runner([web.get("/metrics", metrics)])
    await _listen(runner, address)
    return runner


async def _runner(routes: list[web.RouteDef]) -> web.AppRunner:
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    return runner


async def _listen(runner: web.AppRunner, address: str) -> None:
    """Nowhere if the address is empty. Raises OSError naming it."""
    if not address:
        return
    host, port = split_address(address)
    try:
        await web.TCPSite(runner, host or None, port).start()
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from error
