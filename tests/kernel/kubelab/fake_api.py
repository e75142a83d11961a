"""A Kubernetes API in one screen: pods, nodes, events, ConfigMaps in dicts, lists and watches over TLS.

What the kubelet needs of the real one and nothing more; tests read what it wrote.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import subprocess
import uuid
from pathlib import Path
from typing import Any

from aiohttp import web

Object = dict[str, Any]


def certificate(directory: Path, address: str) -> tuple[Path, Path]:
    """One self-signed certificate that serves as authority, server and client."""
    key, cert = directory / "key.pem", directory / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=test",
         "-addext", f"subjectAltName=IP:{address},IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


class FakeApi:
    """Objects by (collection path, name); every change wakes all watches."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.changes: list[tuple[int, str, str, Object]] = []
        self._version = itertools.count(1)
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def start(self, address: str, cert: Path, key: Path) -> int:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0.2)
        await self._runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(cert, key)
        site = web.TCPSite(self._runner, address, 0, ssl_context=context)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    # -- what tests do ------------------------------------------------------------------------------------------

    async def put(self, collection: str, obj: Object) -> Object:
        meta = obj.setdefault("metadata", {})
        meta.setdefault("uid", str(uuid.uuid4()))
        known = (collection, meta["name"]) in self.objects
        await self._change("MODIFIED" if known else "ADDED", collection, obj)
        return obj

    async def pod(self, name: str, node: str, spec: Object, **meta: Any) -> Object:
        spec = {"nodeName": node, "automountServiceAccountToken": False, **spec}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", **meta},
            "spec": spec,
        }
        return await self.put("/api/v1/namespaces/default/pods", pod)

    async def delete(self, name: str, grace: int = 5) -> None:
        pod = self.objects[("/api/v1/namespaces/default/pods", name)]
        meta = {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}
        await self._change("MODIFIED", "/api/v1/namespaces/default/pods", {**pod, "metadata": meta})

    def get_pod(self, name: str) -> Object | None:
        return self.objects.get(("/api/v1/namespaces/default/pods", name))

    def events(self, reason: str) -> list[str]:
        return [
            obj["message"]
            for (path, _), obj in self.objects.items()
            if path.endswith("/events") and obj["reason"] == reason
        ]

    async def until(self, condition: Any, timeout: float = 10.0) -> Any:
        """Waits until ``condition()`` is true, looking at every change."""
        try:
            async with asyncio.timeout(timeout), self._changed:
                while not (result := condition()):
                    await self._changed.wait()
                return result
        except TimeoutError:
            statuses = [obj.get("status") for (path, _), obj in self.objects.items() if path.endswith("/pods")]
            raise AssertionError(f"not within {timeout} s; pods: {statuses}") from None

    # -- the wire -----------------------------------------------------------------------------------------------

    async def _change(self, kind: str, collection: str, obj: Object) -> None:
        version = next(self._version)
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(version)}}
        key = (collection, obj["metadata"]["name"])
        async with self._changed:
            if kind == "DELETED":
                self.objects.pop(key, None)
            else:
                self.objects[key] = obj
            self.changes.append((version, kind, collection, obj))
            self._changed.notify_all()

    def _matches(self, wanted: str, collection: str) -> bool:
        prefix, _, kind = wanted.rpartition("/")
        return collection == wanted or (
            collection.startswith(prefix + "/namespaces/") and collection.endswith("/" + kind)
        )

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if request.query.get("watch"):
            return await self._watch(request)
        body = await request.json() if request.can_read_body else None
        status = path.endswith("/status")
        collection, _, name = path.removesuffix("/status").rpartition("/")
        if path.endswith("/token"):
            return web.json_response({"status": {"token": "a-token"}}, status=201)
        if request.method == "POST":
            body.setdefault("metadata", {}).setdefault("name", uuid.uuid4().hex)
            return web.json_response(await self.put(path, body), status=201)
        obj = self.objects.get((collection, name))
        if request.method == "GET" and obj is None and self._is_collection(path):
            version = str(self.changes[-1][0] if self.changes else 0)
            items = [o for (c, n), o in self.objects.items() if self._matches(path, c) and n == _selected(request, n)]
            return web.json_response({"metadata": {"resourceVersion": version}, "items": items})
        if obj is None:
            return web.json_response({"message": f"{path} not found", "code": 404}, status=404)
        if request.method == "PATCH":
            merged = (
                {**obj, "status": {**obj.get("status", {}), **body["status"]}}
                if status
                else {**obj, **{k: v for k, v in body.items() if k != "metadata"}}
            )
            await self._change("MODIFIED", collection, merged)
        elif request.method == "DELETE":
            await self._change("DELETED", collection, obj)
        return web.json_response(self.objects.get((collection, name), obj))

    def _is_collection(self, path: str) -> bool:
        return path.rpartition("/")[2] in ("pods", "configmaps", "secrets", "nodes", "events")

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        seen = int(request.query["resourceVersion"])
        while True:
            for version, kind, collection, obj in [c for c in self.changes if c[0] > seen]:
                seen = version
                if self._matches(request.path, collection) and obj["metadata"]["name"] == _selected(
                    request, obj["metadata"]["name"]
                ):
                    await response.write(json.dumps({"type": kind, "object": obj}).encode() + b"\n")
            async with self._changed:
                while self.changes[-1][0] <= seen if self.changes else True:
                    await self._changed.wait()


def _selected(request: web.Request, name: str) -> str:
    """The name that a field selector leaves, or this one."""
    field, _, value = request.query.get("fieldSelector", "").partition("=")
    return value if field == "metadata.name" else name
