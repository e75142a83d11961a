"""OpenAPI over HTTP.

Owns: /openapi/v2, /openapi/v3 and what is below: media types, hashes and how long clients may keep an answer. Comes in:
requests, the documents. Goes out: responses. An address with a hash is of one content: its answer may be kept for good,
and a hash of the past leads to the address of today.
"""

import time
from email.utils import formatdate

from aiohttp import web

from kubelab.apiserver.errors import NotFound
from kubelab.apiserver.openapi import Document, OpenApi, address
from kubelab.apiserver.responses import json_response

# Asked for with "@v1.0" or ".v1.0"; only the latter is a media type that Go can parse.
_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_YEAR = 365 * 86400


def add_routes(router: web.UrlDispatcher, openapi: OpenApi) -> None:
    async def second(request: web.Request) -> web.Response:
        if _PROTOBUF in request.headers.get("Accept", "").replace("@", "."):
            return _answer(request, openapi.v2_protobuf(), media=_PROTOBUF)
        return _answer(request, openapi.v2())

    async def index(request: web.Request) -> web.Response:
        return json_response(openapi.index())

    async def third(request: web.Request) -> web.Response:
        path = request.match_info["path"].strip("/")
        document = openapi.v3(path)
        if document is None:
            raise NotFound("the server could not find the requested resource")
        asked = request.query.get("hash")
        if asked and asked != document.digest:
            return web.Response(status=301, headers={"Location": address(path, document)})
        return _answer(request, document, kept=bool(asked))

    router.add_get("/openapi/v2", second)
    router.add_get("/openapi/v3", index)
    router.add_get("/openapi/v3/{path:.+}", third)


def _answer(
    request: web.Request, document: Document, *, media: str = "application/json", kept: bool = False
) -> web.Response:
    headers = {"ETag": f'"{document.digest}"', "Vary": "Accept"}
    if kept:
        headers |= {"Cache-Control": "public, immutable", "Expires": formatdate(time.time() + _YEAR, usegmt=True)}
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return web.Response(status=304, headers=headers)
    return web.Response(body=document.body, headers={**headers, "Content-Type": media})
