"""OpenAPI documents.

Owns: /openapi/v2 and /openapi/v3. Comes in: the registry and the schemas. Goes out: JSON, made when first asked for and
again after the set of resources changed. Paths carry what kubectl looks for: the kind of each operation, the media
types
of patches, the parameters dryRun and fieldValidation. Source: OpenAPI 2.0 and 3.0; Kubernetes "OpenAPI" reference.
"""

import hashlib
from typing import Any

import msgspec

from kubelab.apiserver.resources import Registry, Resource
from kubelab.apiserver.schemas import Schemas, custom_name

Object = dict[str, Any]
_V2, _V3 = "#/definitions/", "#/components/schemas/"
_PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_INFO = {"title": "Kubernetes", "version": "v1.37.0-kubelab"}


class OpenApi:
    def __init__(self, registry: Registry, schemas: Schemas) -> None:
        self._registry = registry
        self._schemas = schemas
        self._cache: dict[str, bytes] = {}
        registry.on_change(self._cache.clear)

    def index(self) -> Object:
        """The list of v3 documents with a hash of each, so that clients can keep them."""
        paths = {}
        for group, versions in self._registry.groups().items():
            for version in versions:
                path = f"apis/{group}/{version}" if group else f"api/{version}"
                digest = hashlib.sha256(self.v3(path) or b"").hexdigest().upper()
                paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
        return {"paths": paths}

    def v3(self, path: str) -> bytes | None:
        """The document of `api/v1` or `apis/<group>/<version>`; None when it is not served."""
        if path not in self._cache:
            parts = path.split("/")
            group, version = ("", parts[-1]) if parts[0] == "api" else ("/".join(parts[1:-1]), parts[-1])
            if version not in self._registry.groups().get(group, ()):
                return None
            self._cache[path] = self._make_v3(group, version)
        return self._cache[path]

    def v2(self) -> bytes:
        if "v2" not in self._cache:
            paths: Object = {}
            for resource in self._registry:
                for version in resource.versions:
                    paths.update(self._paths(resource, version, reference=_V2))
            definitions = {name: _plain(schema) for name, schema in self._schemas.items()}
            document = {"swagger": "2.0", "info": _INFO, "paths": paths, "definitions": definitions}
            self._cache["v2"] = msgspec.json.encode(document)
        return self._cache["v2"]

    def v2_protobuf(self) -> bytes:
        """The v2 document in protobuf, without definitions.

        kubectl reads it only to validate on the client what the v3 documents do not list, such as `kind: List`. What it
        does not find there it leaves to the server, which validates every object anyway.
        """
        info = _field(1, _INFO["title"].encode()) + _field(2, _INFO["version"].encode())
        return _field(1, b"2.0") + _field(2, info) + _field(8, b"") + _field(9, b"")

    def _make_v3(self, group: str, version: str) -> bytes:
        paths: Object = {}
        names: set[str] = set()
        for resource in self._registry:
            if resource.group == group and version in resource.versions:
                paths.update(self._paths(resource, version, reference=_V3))
                names.add(self._definition(resource, version))
        schemas = self._reachable(names)
        document = {"openapi": "3.0.0", "info": _INFO, "paths": paths, "components": {"schemas": schemas}}
        return msgspec.json.encode(document)

    def _reachable(self, names: set[str]) -> Object:
        known = dict(self._schemas.items())
        waiting, found = list(names), {}
        while waiting:
            name = waiting.pop()
            if name not in found and name in known:
                found[name] = _v3_schema(known[name], waiting)
        return dict(sorted(found.items()))

    def _definition(self, resource: Resource, version: str) -> str:
        if resource.custom:
            return custom_name(resource.group, version, resource.kind)
        for name, schema in self._schemas.items():
            for gvk in schema.get("x-kubernetes-group-version-kind", ()):
                if (gvk["group"], gvk["version"], gvk["kind"]) == (resource.group, version, resource.kind):
                    return name
        return ""

    def _paths(self, resource: Resource, version: str, *, reference: str) -> Object:
        base = f"/apis/{resource.group}/{version}" if resource.group else f"/api/{version}"
        collection = (
            f"{base}/namespaces/{{namespace}}/{resource.plural}" if resource.namespaced else f"{base}/{resource.plural}"
        )
        gvk = {"group": resource.group, "version": version, "kind": resource.kind}
        body = {"$ref": reference + self._definition(resource, version)}

        def operation(action: str, *, writes: bool = False, media: tuple[str, ...] = ()) -> Object:
            made: Object = {
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": gvk,
                "operationId": f"{action}_{resource.key}_{version}",
                "responses": {"200": {"description": "OK"}},
            }
            if writes:
                made["parameters"] = [
                    _query("dryRun", reference),
                    _query("fieldManager", reference),
                    _query("fieldValidation", reference),
                ]
            if media and reference == _V3:
                made["requestBody"] = {
                    "content": {m: {"schema": body if m == "*/*" else {"type": "object"}} for m in media}
                }
            elif media:
                made["consumes"] = list(media)
            return made

        patches = tuple(p for p in _PATCHES if not (resource.custom and "strategic" in p))
        return {
            collection: {
                "get": operation("list"),
                "post": operation("post", writes=True, media=("*/*",)),
                "delete": operation("deletecollection"),
            },
            f"{collection}/{{name}}": {
                "get": operation("get"),
                "put": operation("put", writes=True, media=("*/*",)),
                "patch": operation("patch", writes=True, media=patches),
                "delete": operation("delete", writes=True),
            },
        }


def _field(number: int, value: bytes) -> bytes:
    """One length-delimited protobuf field of fewer than 128 bytes."""
    return bytes((number << 3 | 2, len(value))) + value


def _query(name: str, reference: str) -> Object:
    kind: Object = {"schema": {"type": "string", "uniqueItems": True}} if reference == _V3 else {"type": "string"}
    return {"name": name, "in": "query", **kind}


def _plain(schema: Any) -> Any:
    """A definition for v2, which has neither nullable nor oneOf and friends."""
    if isinstance(schema, dict):
        dropped = ("nullable", "anyOf", "oneOf", "allOf", "not")
        return {k: _plain(v) for k, v in schema.items() if k not in dropped or not isinstance(v, list | bool)}
    return [_plain(v) for v in schema] if isinstance(schema, list) else schema


def _v3_schema(schema: Any, references: list[str]) -> Any:
    """The schema with references as v3 writes them; what stands beside a reference moves it into allOf."""
    if isinstance(schema, list):
        return [_v3_schema(v, references) for v in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return {k: _v3_schema(v, references) for k, v in schema.items()}
    name = reference.removeprefix(_V2)
    references.append(name)
    pointer = {"$ref": _V3 + name}
    beside = {k: v for k, v in schema.items() if k != "$ref"}
    return {"allOf": [pointer], **beside} if beside else pointer
