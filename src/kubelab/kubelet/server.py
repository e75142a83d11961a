"""The kubelet's HTTP on a unix socket, spoken by the API server: exec, logs, pods, health.

GET /healthz
GET /pods
GET /containerLogs/{namespace}/{pod}/{container}?follow&tailLines&sinceSeconds&sinceTime&previous&timestamps&limitBytes
GET or POST /exec/{namespace}/{pod}/{container}?command=..&input&output&error&tty      (WebSocket or SPDY/3.1)
GET or POST /attach/{namespace}/{pod}/{container}?input&output&error&tty
GET or POST /portForward/{namespace}/{pod}?port
GET /stats/summary
GET /metrics/resource
ANY /proxy/{scheme}/{host}/{port}/{path}    a request into the pod network
GET /tunnel/{host}/{port}                   a connection into it (Upgrade: tcp)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from pathlib import Path

from aiohttp import web

from kubelab import timestamps
from kubelab.kubelet import cri_logs, logs, resource_metrics
from kubelab.kubelet.containers import Container
from kubelab.kubelet.inotify import Inotify
from kubelab.kubelet.pages import Pages
from kubelab.kubelet.runtime.contract import Running, Session
from kubelab.kubelet.stats import Summaries
from kubelab.kubelet.status import pod_status
from kubelab.kubelet.streaming import forward, remote
from kubelab.kubelet.streaming.channels import SUCCESS, Wanted, exited, flag
from kubelab.kubelet.worker import PodWorker

_EITHER = ("GET", "POST")


class KubeletServer:
    """Routes over the workers of a kubelet."""

    def __init__(self, node: str, workers: Mapping[str, PodWorker], inotify: Inotify) -> None:
        self._summaries = Summaries(node)
        self._workers, self._inotify = workers, inotify
        self._pages = Pages()

    async def run(self, path: Path) -> None:
        """Serves until cancelled."""
        application = web.Application()
        application.add_routes(
            [
                web.get("/healthz", self._health),
                web.get("/pods", self._pods),
                web.get("/containerLogs/{namespace}/{pod}/{container}", self._logs),
                *(web.route(method, "/exec/{namespace}/{pod}/{container}", self._exec) for method in _EITHER),
                *(web.route(method, "/attach/{namespace}/{pod}/{container}", self._attach) for method in _EITHER),
                *(web.route(method, "/portForward/{namespace}/{pod}", self._forward) for method in _EITHER),
                web.get("/stats/summary", self._stats),
                web.get("/metrics/resource", self._resource_metrics),
                web.route("*", "/proxy/{scheme}/{host}/{port}{path:.*}", self._pages.handle),
                web.get("/tunnel/{host}/{port}", self._pages.tunnel),
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
            await self._pages.close()
            _remove(path)

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _pods(self, _: web.Request) -> web.Response:
        items = [worker.pod for worker in self._workers.values()]
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "items": items})

    async def _stats(self, _: web.Request) -> web.Response:
        return web.json_response(await self._summaries.summary(list(self._workers.values())))

    async def _resource_metrics(self, _: web.Request) -> web.Response:
        page = resource_metrics.text(await self._summaries.summary(list(self._workers.values())))
        return web.Response(body=page.encode(), headers={"Content-Type": resource_metrics.CONTENT_TYPE})

    def _container(self, request: web.Request) -> Container:
        worker, name = self._worker(request), request.match_info["container"]
        if (container := worker.container(name)) is None:
            raise web.HTTPNotFound(text=f"pod {worker.name} has no container {name}")
        return container

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        container = self._container(request)
        read = cri_logs.read if self._worker(request).log_format == "cri" else logs.read
        query = request.query
        attempt = container.attempt
        if flag(query, "previous"):
            attempt -= 1
        elif container.state.kind == "waiting" and attempt > 0 and not container.log_path(attempt).exists():
            attempt -= 1  # between two lives the last one's log is what there is
        path = container.log_path(attempt)
        if not path.exists():
            raise web.HTTPBadRequest(text=_no_log(self._worker(request), container, previous=flag(query, "previous")))
        options = log_options(query)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)

        def running() -> bool:
            return container.attempt == attempt and container.running

        async for chunk in read(path, options, self._inotify, running):
            await response.write(chunk)
        await response.write_eof()
        return response

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        container = self._container(request)
        running = _running(container)
        command = request.query.getall("command", [])
        if not command:
            raise web.HTTPBadRequest(text="exec: query parameter command: at least one is needed")
        wanted = _wanted(request)

        def start() -> Awaitable[Session]:
            return running.open(command, tty=wanted.tty, stdin=wanted.stdin)

        return await remote.serve(request, wanted, start, exited)

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        container = self._container(request)
        running = _running(container)
        wanted = _wanted(request)
        if wanted.tty and not container.spec.get("tty"):
            raise web.HTTPBadRequest(text=f"container {container.name} has no terminal: its tty is false")
        stdin = wanted.stdin and bool(container.spec.get("stdin"))
        return await remote.serve(request, wanted, lambda: running.attach(stdin=stdin), lambda _: SUCCESS)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        worker = self._worker(request)
        return await forward.serve(request, worker.name, worker.uid, worker.dial)

    def _worker(self, request: web.Request) -> PodWorker:
        wanted = f"{request.match_info['namespace']}/{request.match_info['pod']}"
        # Of two pods of one name, one is on its way out: the younger is meant.
        for worker in reversed(list(self._workers.values())):
            if worker.name == wanted:
                return worker
        raise web.HTTPNotFound(text=f"pod {wanted} is not on this node")


def _no_log(worker: PodWorker, container: Container, *, previous: bool) -> str:
    """Why there is no log, with the reason that the pod's status shows."""
    where = f'container "{container.name}" in pod "{worker.pod["metadata"]["name"]}"'
    if previous:
        return f"previous terminated {where} not found"
    status = pod_status(worker.pod, worker.facts())
    every = [*(status.get("initContainerStatuses") or []), *status["containerStatuses"]]
    waiting = next((one["state"].get("waiting") or {} for one in every if one["name"] == container.name), {})
    return f"{where} is waiting to start: {waiting.get('reason') or 'ContainerCreating'}"


def _running(container: Container) -> Running:
    """Raises HTTPInternalServerError, as kubelets do, for a container that does not run."""
    if container.process is None or not container.running:
        raise web.HTTPInternalServerError(text=f'container not found ("{container.name}")')
    return container.process


def _wanted(request: web.Request) -> Wanted:
    wanted = Wanted.read(request.query)
    if not (wanted.stdin or wanted.stdout or wanted.stderr):
        raise web.HTTPBadRequest(text="you must specify at least 1 of stdin, stdout, stderr")
    return wanted


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


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
            since = timestamps.parse(query["sinceTime"]).timestamp()
        except ValueError:
            raise web.HTTPBadRequest(text=f"sinceTime: {query['sinceTime']!r} is not an RFC 3339 time") from None
    return logs.LogOptions(
        follow=flag(query, "follow"),
        tail=number("tailLines"),
        since=since,
        timestamps=flag(query, "timestamps"),
        limit=number("limitBytes"),
    )
