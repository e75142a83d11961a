"""The verbs on resources.

Owns: get, list, watch, create, update, patch, delete and deletecollection over HTTP. Comes in: a parsed `Target` and
the request. Goes out: responses; errors are raised as `ApiError`. What is special about a subresource is in
`subresources.py`.
"""

from dataclasses import replace
from typing import Any

from aiohttp import web

from kubelab.apiserver.bodies import APPLY, Bodies
from kubelab.apiserver.conversion import fields_to_stored, is_stored
from kubelab.apiserver.custom_conversion import Conversions
from kubelab.apiserver.decoding import Decoder
from kubelab.apiserver.errors import BadRequest, MethodNotAllowed, NotFound, too_large
from kubelab.apiserver.options import delete_options, dry_run, field_manager, force, list_options, number
from kubelab.apiserver.ownership.apply import Applier
from kubelab.apiserver.pages import page
from kubelab.apiserver.requests import Negotiation, Target, negotiate
from kubelab.apiserver.responses import Renderer, json_response, success
from kubelab.apiserver.schemas import Schemas
from kubelab.apiserver.store import Store
from kubelab.apiserver.watching import Watcher

Object = dict[str, Any]


class ResourceHandlers:
    def __init__(
        self, store: Store, schemas: Schemas, renderer: Renderer, decoder: Decoder, conversions: Conversions
    ) -> None:
        self.decoder = decoder
        self._store = store
        self.bodies = Bodies(schemas, decoder, conversions)
        self._renderer = renderer
        self._conversions = conversions
        self._watcher = Watcher(store, renderer, conversions)

    async def handle(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Dispatch by method. Raises MethodNotAllowed for what the resource does not offer."""
        match request.method, bool(target.name):
            case "GET", False:
                if request.query.get("watch") in ("true", "1"):
                    return await self._watcher.serve(request, target, negotiate(request.headers.get("Accept", "")))
                return await self.collection(request, target)
            case "GET", True:
                if request.query.get("watch") in ("true", "1"):
                    return await self._watcher.serve(request, target, negotiate(request.headers.get("Accept", "")))
                return await self.get(request, target)
            case "POST", False:
                return await self.create(request, target)
            case "PUT", True:
                return await self.update(request, target)
            case "PATCH", True:
                return await self.patch(request, target)
            case "DELETE", True:
                return await self.delete(request, target)
            case "DELETE", False:
                return await self.delete_collection(request, target)
        raise MethodNotAllowed("the server does not allow this method on the requested resource")

    # ---- reading -------------------------------------------------------------------------------------------------

    async def get(self, request: web.Request, target: Target) -> web.Response:
        wanted = number(request.query.get("resourceVersion", ""))
        if wanted > self._store.version:
            raise too_large(wanted, self._store.version)
        obj = await self._store.get(target.resource.stored, target.name, namespace=target.namespace)
        return await self._answer(request, obj, target)

    async def collection(self, request: web.Request, target: Target) -> web.Response:
        options = list_options(request.query)
        options = replace(options, fields=fields_to_stored(options.fields, target))
        entries, metadata = page(
            self._store, target.resource.stored, namespace=target.namespace or None, options=options
        )
        return self._renderer.collection(
            await self._conversions.entries(entries, target),
            target,
            negotiate(request.headers.get("Accept", "")),
            metadata=metadata,
            include=request.query.get("includeObject", "Metadata"),
        )

    # ---- writing -------------------------------------------------------------------------------------------------

    async def create(self, request: web.Request, target: Target) -> web.Response:
        body, warnings = await self.bodies.read(request, target)
        obj = await self._store.create(
            target.resource.stored,
            body,
            namespace=target.namespace,
            manager=field_manager(request),
            dry_run=dry_run(request),
        )
        return await self._answer(request, obj, target, status=201, warnings=warnings)

    async def update(self, request: web.Request, target: Target) -> web.Response:
        body, warnings = await self.bodies.read(request, target)
        name = (body.get("metadata") or {}).get("name", target.name)
        if name != target.name:
            raise BadRequest(f"the name of the object ({name}) does not match the name on the URL ({target.name})")
        body.setdefault("metadata", {})["name"] = name
        obj = await self._store.update(
            target.resource.stored,
            body,
            namespace=target.namespace,
            subresource=target.subresource,
            manager=field_manager(request),
            dry_run=dry_run(request),
        )
        return await self._answer(request, obj, target, warnings=warnings)

    async def patch(self, request: web.Request, target: Target) -> web.Response:
        applies = request.content_type == APPLY
        forced = force(request, applies=applies)
        if applies:
            return await self._apply(request, target, forced=forced)
        patch = await self.bodies.read_patch(request)
        warnings: list[str] = []
        obj = await self._store.patch(
            target.resource.stored,
            target.name,
            lambda old: self.bodies.patched(patch, old, target, warnings),
            namespace=target.namespace,
            subresource=target.subresource,
            manager=field_manager(request),
            dry_run=dry_run(request),
        )
        return await self._answer(request, obj, target, warnings=warnings)

    async def _apply(self, request: web.Request, target: Target, *, forced: bool) -> web.Response:
        content, warnings = await self.bodies.read_apply(request, target)
        obj, created = await self._store.apply(
            target.resource.stored,
            target.name,
            content,
            Applier(field_manager(request), force=forced, subresource=target.subresource),
            namespace=target.namespace,
            dry_run=dry_run(request),
        )
        return await self._answer(request, obj, target, status=201 if created else 200, warnings=warnings)

    async def delete(self, request: web.Request, target: Target) -> web.Response:
        options = await delete_options(request, self.decoder)
        resource = target.resource
        before = await self._store.get(resource.stored, target.name, namespace=target.namespace)
        obj = await self._store.delete(resource.stored, target.name, namespace=target.namespace, **options)
        still_there = self._store.peek(resource.stored, target.name, namespace=target.namespace)
        if still_there is not None and still_there["metadata"]["uid"] == before["metadata"]["uid"]:
            return await self._answer(request, obj, target)
        uid = before["metadata"]["uid"]
        return json_response(success(name=target.name, group=resource.group, kind=resource.plural, uid=uid))

    async def delete_collection(self, request: web.Request, target: Target) -> web.Response:
        options = await delete_options(request, self.decoder)
        query = request.query
        selector = self._store.selector(
            target.resource.stored,
            query.get("labelSelector", ""),
            fields_to_stored(query.get("fieldSelector", ""), target),
        )
        listing = self._store.select(target.resource.stored, namespace=target.namespace or None, selector=selector)
        for obj in listing.items:
            metadata = obj["metadata"]
            try:
                await self._store.delete(
                    target.resource.stored, metadata["name"], namespace=metadata.get("namespace", ""), **options
                )
            except NotFound:
                continue  # An earlier deletion of this request took it along.
        metadata = {"resourceVersion": str(self._store.version)}
        entries = await self._conversions.entries(listing.entries, target)
        return self._renderer.collection(entries, target, Negotiation(), metadata=metadata)

    async def _answer(
        self,
        request: web.Request,
        obj: Object,
        target: Target,
        *,
        status: int = 200,
        warnings: list[str] | None = None,
    ) -> web.Response:
        stored = is_stored(target)
        return self._renderer.single(
            obj if stored else await self._conversions.shown(obj, target),
            target,
            negotiate(request.headers.get("Accept", "")),
            encoded=self._store.encoded(target.resource.key, obj) if stored else None,
            status=status,
            warnings=warnings or (),
            include=request.query.get("includeObject", "Metadata"),
        )
