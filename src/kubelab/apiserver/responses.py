"""How answers are written.

Owns: encoding of objects, lists, tables and errors into HTTP responses. Comes in: stored entries, a negotiation. Goes
out: aiohttp responses. Stored JSON is passed through as it is, without decoding.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from kubelab.apiserver.conversion import is_stored
from kubelab.apiserver.errors import ApiError
from kubelab.apiserver.requests import Negotiation, Target
from kubelab.apiserver.tables import Tables, partial
from kubelab.apiserver.watch import Entry

Object = dict[str, Any]


def json_response(
    obj: Any, *, status: int = 200, warnings: Iterable[str] = (), content_type: str = "application/json"
) -> web.Response:
    response = web.Response(body=msgspec.json.encode(obj), status=status)
    response.headers["Content-Type"] = content_type
    add_warnings(response, warnings)
    return response


def add_warnings(response: web.StreamResponse, warnings: Iterable[str]) -> None:
    for text in warnings:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{escaped}"')


def error_response(error: ApiError) -> web.Response:
    response = json_response(error.status(), status=error.code)
    if error.retry_after:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def success(*, name: str, group: str, kind: str, uid: str) -> Object:
    """The Status of a deletion that left nothing."""
    details = {"name": name, "kind": kind, "uid": uid, **({"group": group} if group else {})}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


class Renderer:
    """Objects in the form that the client wants. They come in its version."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def single(
        self,
        obj: Object,
        target: Target,
        negotiation: Negotiation,
        *,
        encoded: bytes | None = None,
        status: int = 200,
        warnings: Iterable[str] = (),
        include: str = "Metadata",
    ) -> web.Response:
        """`encoded`: the object's JSON, where it is there already."""
        if negotiation.form == "Table":
            metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            return json_response(
                self.table([obj], target, metadata=metadata, include=include), status=status, warnings=warnings
            )
        if negotiation.form == "PartialObjectMetadata":
            return json_response(partial(obj), status=status, warnings=warnings)
        return json_response(obj if encoded is None else msgspec.Raw(encoded), status=status, warnings=warnings)

    def collection(
        self,
        entries: Sequence[Entry],
        target: Target,
        negotiation: Negotiation,
        *,
        metadata: Object,
        include: str = "Metadata",
    ) -> web.Response:
        resource = target.resource
        match negotiation.form:
            case "Table":
                objects = [e.object for e in entries]
                return json_response(self.table(objects, target, metadata=metadata, include=include))
            case "PartialObjectMetadata":
                items: list[Any] = [partial(e.object) for e in entries]
                kind, version = "PartialObjectMetadataList", "meta.k8s.io/v1"
            case _:
                items = [self._raw(e, target) for e in entries]
                kind, version = resource.list_kind, resource.api_version(target.version)
        return json_response({"kind": kind, "apiVersion": version, "metadata": metadata, "items": items})

    def table(
        self, objects: Iterable[Object], target: Target, *, metadata: Object, include: str, headers: bool = True
    ) -> Object:
        return self._tables.render(
            objects,
            resource=target.resource.key,
            version=target.version,
            metadata=metadata,
            include=include,
            headers=headers,
        )

    def _raw(self, entry: Entry, target: Target) -> msgspec.Raw | Object:
        return msgspec.Raw(entry.raw) if is_stored(target) else entry.object
