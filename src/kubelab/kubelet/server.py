"""The kubelet's HTTP on a unix socket, spoken by the API server: exec, logs, pods, health.

GET /healthz
GET /pods
GET /containerLogs/{namespace}/{pod}/{container}?follow&tailLines&sinceSeconds&sinceTime&previous&timestamps&limitBytes
GET /exec/{namespace}/{pod}/{container}?command=..&stdin&stdout&stderr&tty   (WebSocket, v5/v4.channel.k8s.io)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from aiohttp import web

from kubelab.kubelet import logs, streams
from kubelab.kubelet.containers import Container
from kubelab.kubelet.inotify import Inotify
from kubelab.kubelet.worker import PodWorker


class KubeletServer:
    """Routes over the workers of a kubelet."""

    def __init__(self, workers: Mapping[str, PodWorker], inotify: Inotify) -> None:
        self._workers, self._inotify = workers, inotify

    async def run(self, path: Path) -> None:
        """Serves until cancelled."""
        application = web.Application()
        application.add_routes(
            [
                web.get("/healthz", self._health),
                web.get("/pods", self._pods),
                web.get("/containerLogs/{namespace}/{pod}/{container}", self._logs),
                web.get("/exec/{namespace}/{pod}/{container}", self._exec),
            ]
        )
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        _remove(path)  # an earlier kubelet's
        try:
            await web.UnixSite(runner, str(path)).start()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()
            _remove(path)

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _pods(self, _: web.Request) -> web.Response:
        items = [worker.pod for worker in self._workers.values()]
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "items": items})

    def _container(self, request: web.Request) -> Container:
        wanted = f"{request.match_info['namespace']}/{request.match_info['pod']}"
        name = request.match_info["container"]
        # Of two pods of one name, one is on its way out: the younger is meant.
        for worker in reversed(list(self._workers.values())):
            if worker.name == wanted:
                container = worker.container(name)
                if container is None:
                    raise web.HTTPNotFound(text=f"pod {wanted} has no container {name}")
                return container
        raise web.HTTPNotFound(text=f"pod {wanted} is not on this node")

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        container = self._container(request)
        query = request.query
        attempt = container.attempt
        if flag(query, "previous"):
            attempt -= 1
        elif container.state.kind == "waiting" and attempt > 0 and not container.log_path(attempt).exists():
            attempt -= 1  # between two lives the last one's log is what there is
        path = container.log_path(attempt)
        if not path.exists():
            what = "previous terminated container" if flag(query, "previous") else "container"
            raise web.HTTPBadRequest(
                text=f'{what} "{container.name}" has no log: it is {container.state.reason or "not started"}'
            )
        options = log_options(query)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)

        def running() -> bool:
            return container.attempt == attempt and container.running

        async for chunk in logs.read(path, options, self._inotify, running):
            await response.write(chunk)
        await response.write_eof()
        return response

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        container = self._container(request)
        if container.process is None or not container.running:
            raise web.HTTPBadRequest(text=f"container {container.name} is not running")
        query = request.query
        command = query.getall("command", [])
        if not command:
            raise web.HTTPBadRequest(text="exec: query parameter command: at least one is needed")
        wanted = streams.Wanted(
            stdin=flag(query, "stdin", "input"),
            stdout=flag(query, "stdout", "output"),
            stderr=flag(query, "stderr", "error"),
            tty=flag(query, "tty"),
        )
        socket = web.WebSocketResponse(protocols=streams.PROTOCOLS, max_msg_size=0, autoclose=False)
        await socket.prepare(request)
        await streams.execute(socket, container.process, command, wanted)
        return socket


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def flag(query: Mapping[str, str], *names: str) -> bool:
    """A boolean query parameter under any of its names."""
    return any(query.get(name, "").lower() in ("1", "true") for name in names)


def log_options(query: Mapping[str, str]) -> logs.LogOptions:
    """Raises HTTPBadRequest naming the parameter that is no number or no time."""

    def number(name: str) -> int | None:
        if name not in query:
            return None
        try:
            return max(0, int(query[name]))
        except ValueError:
            raise web.HTTPBadRequest(text=f"{name}: {query[name]!r} is not a number") from None

    since: float | None = None
    if (seconds := number("sinceSeconds")) is not None:
        since = time.time() - seconds
    elif "sinceTime" in query:
        try:
            since = datetime.fromisoformat(query["sinceTime"]).timestamp()
        except ValueError:
            raise web.HTTPBadRequest(text=f"sinceTime: {query['sinceTime']!r} is not an RFC 3339 time") from None
    return logs.LogOptions(
        follow=flag(query, "follow"),
        tail=number("tailLines"),
        since=since,
        timestamps=flag(query, "timestamps"),
        limit=number("limitBytes"),
    )
