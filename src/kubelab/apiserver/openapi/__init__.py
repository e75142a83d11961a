"""OpenAPI documents.

Owns: what /openapi/v2 and /openapi/v3 show. Comes in: the registry, the schemas, and what their fields mean
(`descriptions`). Goes out: bytes with their hash, made when first asked for. A document that shows custom resources is
made again after the set of resources changed; one of built-in kinds only stays. Source: OpenAPI 2.0 and 3.0; Kubernetes
"OpenAPI" reference.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from kubelab.apiserver.openapi import forms, gnostic
from kubelab.apiserver.openapi.descriptions import Descriptions
from kubelab.apiserver.openapi.lists import list_definition, list_name
from kubelab.apiserver.openapi.operations import paths_of
from kubelab.apiserver.resources import Registry, Resource
from kubelab.apiserver.schemas import Schema, Schemas, custom_name

Object = dict[str, Any]
_INFO = {"title": "Kubernetes", "version": "v1.37.0-kubelab"}


@dataclass(frozen=True, slots=True)
class Document:
    body: bytes
    digest: str

    @classmethod
    def of(cls, body: bytes) -> "Document":
        return cls(body, hashlib.sha256(body).hexdigest().upper())


class OpenApi:
    def __init__(self, registry: Registry, schemas: Schemas) -> None:
        self._registry = registry
        self._schemas = schemas
        self._descriptions = Descriptions()
        self._fixed: dict[str, Document] = {}
        "Those of groups with built-in kinds only, whose schemas never change."
        self._changing: dict[str, Document] = {}
        registry.on_change(self._changing.clear)

    def index(self) -> Object:
        """The list of v3 documents with a hash of each, so that clients can keep them."""
        paths = {}
        for group, versions in self._registry.groups().items():
            for version in versions:
                path = f"apis/{group}/{version}" if group else f"api/{version}"
                if document := self.v3(path):
                    paths[path] = {"serverRelativeURL": address(path, document)}
        return {"paths": paths}

    def v3(self, path: str) -> Document | None:
        """The document of `api/v1` or `apis/<group>/<version>`; None when it is not served."""
        parts = path.split("/")
        group, version = ("", parts[-1]) if parts[0] == "api" else ("/".join(parts[1:-1]), parts[-1])
        served = [r for r in self._registry if r.group == group and version in r.versions]
        if not served:
            return None
        kept = self._changing if any(resource.custom for resource in served) else self._fixed
        name = f"{path}: {' '.join(resource.plural for resource in served)}"
        return self._made(kept, name, lambda: self._make_v3(served, version))

    def v2(self) -> Document:
        return self._made(self._changing, "v2", lambda: msgspec.json.encode(self._make_v2()))

    def v2_protobuf(self) -> Document:
        """The same document as Go clients ask for it."""
        return self._made(self._changing, "v2.pb", lambda: gnostic.encode(self._make_v2()))

    @staticmethod
    def _made(kept: dict[str, Document], name: str, make: Callable[[], bytes]) -> Document:
        if name not in kept:
            kept[name] = Document.of(make())
        return kept[name]

    def _make_v2(self) -> Object:
        paths: Object = {}
        for resource in self._registry:
            for version in resource.versions:
                paths.update(paths_of(resource, version, forms.V2 + self._definition(resource, version)))
        described = self._descriptions.described
        definitions = {name: forms.v2(name, described(name, schema)) for name, schema in self._known().items()}
        return {"swagger": "2.0", "info": _INFO, "paths": paths, "definitions": definitions}

    def _make_v3(self, served: Iterable[Resource], version: str) -> bytes:
        paths: Object = {}
        names: set[str] = set()
        for resource in served:
            name = self._definition(resource, version)
            paths.update(paths_of(resource, version, forms.V3 + name))
            names |= {name, list_name(name)}
        schemas = self._reachable(names)
        document = {"openapi": "3.0.0", "info": _INFO, "paths": paths, "components": {"schemas": schemas}}
        return msgspec.json.encode(document)

    def _reachable(self, names: set[str]) -> Object:
        known = self._known()
        waiting, found = list(names), {}
        while waiting:
            name = waiting.pop()
            if name not in found and name in known:
                found[name] = forms.v3(name, self._descriptions.described(name, known[name]), waiting)
        return dict(sorted(found.items()))

    def _known(self) -> dict[str, Schema]:
        """All definitions, with those of lists."""
        known = dict(self._schemas.items())
        for resource in self._registry:
            for version in resource.versions:
                if "list" in resource.verbs and (name := self._definition(resource, version)):
                    known[list_name(name)] = list_definition(resource, version, name)
        return known

    def _definition(self, resource: Resource, version: str) -> str:
        if resource.custom:
            return custom_name(resource.group, version, resource.kind)
        node = self._schemas.node(resource.group, version, resource.kind)
        return node.name if node else ""


def address(path: str, document: Document) -> str:
    """Where the document of `path` is, as long as it is this one."""
    return f"/openapi/v3/{path}?hash={document.digest}"
