"""A small API server for the client's tests: real HTTP on loopback, objects in a dict, faults on demand."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from typing import Any

from aiohttp import web

Object = dict[str, Any]


class FakeAPI:
    """Collections by path; `restart` comes back on the same port. Nothing here knows what an object means."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.history: list[tuple[int, str, str, Any]] = []
        self.version = 100
        self.oldest = 0
        """Watches from an older version get 410."""
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[tuple[str, Any]] = []
        self.token = ""
        self.refuse: dict[str, tuple[int, dict[str, Any]]] = {}
        """Answers by `METHOD path`, once each."""
        self.abort: set[str] = set()
        """`METHOD path` whose connection breaks before the answer, once each."""
        self.hang: asyncio.Event | None = None
        """Requests wait for it."""
        self.changed = asyncio.Condition()
        self.port = 0
        self._tls = tls
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self.port}"

    async def __aenter__(self) -> FakeAPI:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.01, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "localhost", self.port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        if not self.port:
            assert site._server is not None
            self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def put(self, collection: str, name: str, body: Any) -> None:
        """Creates or replaces; any JSON will do as a body."""
        self.version += 1
        if isinstance(body, dict) and isinstance(body.get("metadata"), dict):
            body["metadata"].setdefault("name", name.rpartition("/")[2])
            body["metadata"]["resourceVersion"] = str(self.version)
        known = self.objects.setdefault(collection, {})
        await self._record("MODIFIED" if name in known else "ADDED", collection, body)
        known[name] = body

    async def remove(self, collection: str, name: str) -> None:
        self.version += 1
        body = self.objects[collection].pop(name)
        await self._record("DELETED", collection, body)

    async def emit(self, collection: str, kind: str, body: Any) -> None:
        """An event that changes nothing, such as BOOKMARK or ERROR."""
        self.version += 1
        await self._record(kind, collection, body)

    def compact(self) -> None:
        """Forget history, as etcd does: older watches cannot resume."""
        self.oldest = self.version

    async def _record(self, kind: str, collection: str, body: Any) -> None:
        async with self.changed:
            self.history.append((self.version, collection, kind, body))
            self.changed.notify_all()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path, query = request.path, dict(request.query)
        self.requests.append((request.method, path, query))
        if f"{request.method} {path}" in self.abort:
            self.abort.discard(f"{request.method} {path}")
            assert request.transport is not None
            request.transport.abort()
        if self.hang is not None:
            await self.hang.wait()
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return status(401, "Unauthorized", "who are you?")
        refusal = self.refuse.pop(f"{request.method} {path}", None)
        if refusal is not None:
            code, options = refusal
            return web.Response(status=code, **options)
        if request.method == "GET" and query.get("watch") == "true":
            return await self._watch(request, path, query)
        if request.method == "GET":
            return self._get(path, query)
        return await self._write(request, path)

    def _get(self, path: str, query: dict[str, str]) -> web.Response:
        parent, _, name = path.rpartition("/")
        if parent in self.objects and path not in self.objects:
            found = self.objects[parent].get(name)
            return web.json_response(found) if found else status(404, "NotFound", f"{name} not found")
        objects = [body for body in self.objects.get(path, {}).values() if matches(body, query)]
        start = int(query.get("continue", "0"))
        end = start + int(query.get("limit", "0") or len(objects))
        metadata = {"resourceVersion": str(self.version)}
        if end < len(objects):
            metadata["continue"] = str(end)
        return web.json_response({"metadata": metadata, "items": objects[start:end]})

    async def _watch(self, request: web.Request, path: str, query: dict[str, str]) -> web.StreamResponse:
        since = int(query["resourceVersion"])
        if since < self.oldest:
            return status(410, "Expired", "too old resource version")
        stream = web.StreamResponse()
        await stream.prepare(request)
        sent = next((i for i, entry in enumerate(self.history) if entry[0] > since), len(self.history))
        try:
            while True:
                async with self.changed:
                    while len(self.history) <= sent:
                        await self.changed.wait()
                for _, collection, kind, body in self.history[sent:]:
                    if collection != path or not matches(body, query):
                        continue
                    if kind == "BYTES":
                        await stream.write(body)
                    else:
                        await stream.write(json.dumps({"type": kind, "object": body}).encode() + b"\n")
                sent = len(self.history)
        except ConnectionError:
            return stream

    async def _write(self, request: web.Request, path: str) -> web.Response:
        body = json.loads(await request.read() or b"null")
        self.bodies.append((request.content_type, body))
        parent, _, name = path.removesuffix("/status").rpartition("/")
        if request.method == "POST":
            name = body["metadata"]["name"]
            if name in self.objects.get(path, {}):
                return status(409, "AlreadyExists", f"{name} already exists")
            await self.put(path, name, body)
            return web.json_response(body, status=201)
        known = self.objects.get(parent, {}).get(name)
        if known is None:
            return status(404, "NotFound", f"{name} not found")
        if request.method == "DELETE":
            for field, wanted in (body.get("preconditions") or {}).items():
                if known["metadata"].get(field) != wanted:
                    return status(409, "Conflict", f"{name} has another {field}")
            await self.remove(parent, name)
            return web.json_response({"kind": "Status", "status": "Success"})
        await self.put(parent, name, body if request.method == "PUT" else {**known, **body})
        return web.json_response(self.objects[parent][name])


def matches(body: Any, query: dict[str, str]) -> bool:
    selector = query.get("fieldSelector", "")
    if not selector:
        return True
    field, _, wanted = selector.partition("=")
    assert field == "spec.nodeName"
    return bool(body["spec"].get("nodeName") == wanted)


def status(code: int, reason: str, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "reason": reason, "message": message}, status=code)


async def eventually(condition: Callable[[], object]) -> None:
    """For conditions that nobody announces; the caller sets the time limit."""
    while not condition():  # noqa: ASYNC110  # see above
        await asyncio.sleep(0.005)
