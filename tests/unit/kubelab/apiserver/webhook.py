"""A webhook that runs: an HTTPS server with a certificate of an authority of its own."""

import base64
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from kubelab.apiserver.tls import Authority

Object = dict[str, Any]
Answer = Callable[[Object], Any]
"""From the request of a review to its response, or to a whole HTTP response."""


class Webhook:
    """`answers[path]` says what is answered there, `seen[path]` what was asked."""

    def __init__(self, port: int, bundle: bytes) -> None:
        self.port = port
        self.bundle = base64.b64encode(bundle).decode()
        self.answers: dict[str, Answer] = {}
        self.seen: dict[str, list[Object]] = {}

    def at(self, path: str, answer: Answer) -> Object:
        """Answer there; goes out: the clientConfig that leads there."""
        self.answers[path] = answer
        self.seen[path] = []
        return {"url": f"https://127.0.0.1:{self.port}{path}", "caBundle": self.bundle}

    async def handle(self, request: web.Request) -> web.Response:
        review = await request.json()
        self.seen[request.path].append(review["request"])
        response = self.answers[request.path](review["request"])
        if isinstance(response, web.Response):
            return response
        answer = {"kind": review["kind"], "apiVersion": review["apiVersion"]}
        return web.json_response({**answer, "response": {"uid": review["request"]["uid"], **response}})


@asynccontextmanager
async def running(directory: Path, *names: str) -> AsyncIterator[Webhook]:
    """`names`: what the certificate is for, beside 127.0.0.1."""
    authority = Authority(directory / "webhook-pki")
    context = authority.server_context(["127.0.0.1", *names])
    context.verify_mode = ssl.CERT_NONE
    listener = socket.create_server(("127.0.0.1", 0))
    webhook = Webhook(listener.getsockname()[1], authority.certificate)
    application = web.Application()
    application.router.add_post("/{path:.*}", webhook.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, listener, ssl_context=context).start()
    try:
        yield webhook
    finally:
        await runner.cleanup()


def allow(_: Object) -> Object:
    return {"allowed": True}


def deny(message: str = "", **status: Any) -> Answer:
    shown = {**({"message": message} if message else {}), **status}
    return lambda _: {"allowed": False, **({"status": shown} if shown else {})}


def patch(*operations: Object) -> Answer:
    encoded = base64.b64encode(json.dumps(operations).encode()).decode()
    return lambda _: {"allowed": True, "patchType": "JSONPatch", "patch": encoded}


def label(name: str, value: str) -> Answer:
    """Adds a label, whether there are some or not."""

    def answer(request: Object) -> Object:
        labels = {**(request["object"]["metadata"].get("labels") or {}), name: value}
        made: Object = patch({"op": "add", "path": "/metadata/labels", "value": labels})(request)
        return made

    return answer


def configuration(kind: str, name: str, *hooks: Object) -> Object:
    """Of hooks that say what is particular about them."""
    common = {"admissionReviewVersions": ["v1"], "sideEffects": "None", "timeoutSeconds": 5}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [{"name": f"hook{n}.{name}.test", **common, **hook} for n, hook in enumerate(hooks)],
    }


def rules(*resources: str, group: str = "", operations: tuple[str, ...] = ("CREATE",), **more: Any) -> list[Object]:
    rule = {"apiGroups": [group], "apiVersions": ["v1"], "resources": list(resources), "operations": list(operations)}
    return [{**rule, **more}]
