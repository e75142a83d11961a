"""Resources whose objects are made when they are asked for: no store holds them, nobody writes or watches them.

Owns: their verbs get and list over HTTP, and when they are served: while there is an APIService of their group and
version. Comes in: sources, requests. Goes out: responses like those of stored resources.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from aiohttp import web

from kubelab.apiserver.errors import MethodNotAllowed
from kubelab.apiserver.options import list_options
from kubelab.apiserver.printers.columns import Column
from kubelab.apiserver.requests import Negotiation, Target, negotiate
from kubelab.apiserver.resources import Registry, Resource
from kubelab.apiserver.responses import Renderer, json_response
from kubelab.apiserver.schemas import Schemas
from kubelab.apiserver.selectors import Selector, parse_fields, parse_labels
from kubelab.apiserver.store import Store
from kubelab.apiserver.tables import Tables, partial
from kubelab.apiserver.watch import Change

Object = dict[str, Any]
API_SERVICES = "apiservices.apiregistration.k8s.io"


class Source(Protocol):
    """Makes the objects of one resource."""

    @property
    def resource(self) -> Resource: ...

    @property
    def columns(self) -> tuple[Column, ...]: ...

    @property
    def definitions(self) -> dict[str, Any]:
        """OpenAPI definitions of the kind and what it consists of."""

    async def objects(self, namespace: str) -> Sequence[Object]:
        """All of a namespace, or, with "", all there are; with apiVersion and kind."""

    async def one(self, namespace: str, name: str) -> Object:
        """Raises NotFound."""


class Computed:
    """The computed resources of a server."""

    def __init__(self, store: Store, registry: Registry, schemas: Schemas, tables: Tables, renderer: Renderer) -> None:
        self._store, self._registry, self._schemas, self._tables = store, registry, schemas, tables
        self._renderer = renderer
        self._sources: dict[str, Source] = {}
        store.on_commit(self._observe)

    def add(self, source: Source) -> None:
        """Serve it as soon as there is an APIService."""
        resource = source.resource
        self._sources[resource.key] = source
        self._tables.set_columns(resource.key, source.columns)
        self._schemas.define(source.definitions)
        if self._store.peek(API_SERVICES, service_name(resource)) is not None:
            self._registry.add(resource)

    def serves(self, resource: Resource) -> bool:
        return resource.key in self._sources

    async def handle(self, request: web.Request, target: Target) -> web.Response:
        """Raises MethodNotAllowed, NotFound."""
        if request.method != "GET" or request.query.get("watch") in ("true", "1"):
            raise MethodNotAllowed("the server does not allow this method on the requested resource")
        source = self._sources[target.resource.key]
        if target.name:
            return self._single(request, target, await source.one(target.namespace, target.name))
        options = list_options(request.query)
        selector = Selector(parse_labels(options.labels), parse_fields(options.fields, allowed=()))
        found = [obj for obj in await source.objects(target.namespace) if selector.matches(obj)]
        return self._list(request, target, found)

    def _single(self, request: web.Request, target: Target, obj: Object) -> web.Response:
        negotiation, include = _asked(request)
        return self._renderer.single(obj, target, negotiation, include=include)

    def _list(self, request: web.Request, target: Target, found: Iterable[Object]) -> web.Response:
        negotiation, include = _asked(request)
        resource, metadata = target.resource, Object()
        if negotiation.form == "Table":
            return json_response(self._renderer.table(found, target, metadata=metadata, include=include))
        kind, version, items = resource.list_kind, resource.api_version(target.version), list(found)
        if negotiation.form == "PartialObjectMetadata":
            kind, version, items = "PartialObjectMetadataList", "meta.k8s.io/v1", [partial(obj) for obj in items]
        return json_response({"kind": kind, "apiVersion": version, "metadata": metadata, "items": items})

    def _observe(self, resource: Resource, change: Change) -> None:
        """An APIService came or went."""
        if resource.key != API_SERVICES:
            return
        name = change.entry.object["metadata"]["name"]
        for source in self._sources.values():
            if service_name(source.resource) != name:
                continue
            if change.type == "DELETED":
                self._registry.remove(source.resource.key)
            elif self._registry.get(source.resource.key) is None:
                self._registry.add(source.resource)


def service_name(resource: Resource) -> str:
    return f"{resource.storage_version}.{resource.group}"


def _asked(request: web.Request) -> tuple[Negotiation, str]:
    return negotiate(request.headers.get("Accept", "")), request.query.get("includeObject", "Metadata")
