"""The verbs on resources.

Owns: get, list, watch, create, update, patch, delete and deletecollection over HTTP. Comes in: a parsed `Target` and
the request. Goes out: responses; errors are raised as `ApiError`. What is special about a subresource is in
`subresources.py`.
"""

import base64
from typing import Any

import msgspec
from aiohttp import web

from kubelab.apiserver.apply import apply_configuration
from kubelab.apiserver.decoding import Cleaner, Decoder, decode
from kubelab.apiserver.errors import BadRequest, Expired, MethodNotAllowed, NotFound, UnsupportedMediaType
from kubelab.apiserver.patches import json_patch, merge_patch, strategic_merge
from kubelab.apiserver.requests import Negotiation, Target, negotiate
from kubelab.apiserver.responses import Renderer, json_response, success
from kubelab.apiserver.schemas import Schemas
from kubelab.apiserver.store import Store
from kubelab.apiserver.watch import Entry
from kubelab.apiserver.watching import Watcher

Object = dict[str, Any]


class ResourceHandlers:
    def __init__(self, store: Store, schemas: Schemas, renderer: Renderer, decoder: Decoder) -> None:
        self.decoder = decoder
        self._store = store
        self._schemas = schemas
        self._renderer = renderer
        self._watcher = Watcher(store, renderer)

    async def handle(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Dispatch by method. Raises MethodNotAllowed for what the resource does not offer."""
        match request.method, bool(target.name):
            case "GET", False:
                if request.query.get("watch") in ("true", "1"):
                    return await self._watcher.serve(request, target, negotiate(request.headers.get("Accept", "")))
                return self.collection(request, target)
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
        obj = await self._store.get(target.resource.key, target.name, namespace=target.namespace)
        return self._answer(request, obj, target)

    def collection(self, request: web.Request, target: Target) -> web.Response:
        query = request.query
        selector = self._store.selector(
            target.resource.key, query.get("labelSelector", ""), query.get("fieldSelector", "")
        )
        listing = self._store.select(target.resource.key, namespace=target.namespace or None, selector=selector)
        entries, metadata = _page(listing.entries, listing.version, query.get("limit", ""), query.get("continue", ""))
        return self._renderer.collection(
            entries,
            target,
            negotiate(request.headers.get("Accept", "")),
            metadata=metadata,
            include=query.get("includeObject", "Metadata"),
        )

    # ---- writing -------------------------------------------------------------------------------------------------

    async def create(self, request: web.Request, target: Target) -> web.Response:
        body, warnings = await self.read_object(request, target)
        obj = await self._store.create(target.resource.key, body, namespace=target.namespace, dry_run=dry_run(request))
        return self._answer(request, obj, target, status=201, warnings=warnings)

    async def update(self, request: web.Request, target: Target) -> web.Response:
        body, warnings = await self.read_object(request, target)
        name = (body.get("metadata") or {}).get("name", target.name)
        if name != target.name:
            raise BadRequest(f"the name of the object ({name}) does not match the name on the URL ({target.name})")
        body.setdefault("metadata", {})["name"] = name
        obj = await self._store.update(
            target.resource.key,
            body,
            namespace=target.namespace,
            subresource=target.subresource,
            dry_run=dry_run(request),
        )
        return self._answer(request, obj, target, warnings=warnings)

    async def patch(self, request: web.Request, target: Target) -> web.Response:
        raw = await request.read()
        media = request.content_type
        content = decode(raw, media.replace("apply-patch+", "") if "apply" in media else "application/json")
        if media == "application/apply-patch+yaml":
            return await self._apply(request, target, content)
        strict = request.query.get("fieldValidation", "Warn")
        warnings: list[str] = []

        def change(old: Object) -> Object:
            patched = self._patched(media, old, content, target)
            return self.clean(patched, target, strict, warnings)

        obj = await self._store.patch(
            target.resource.key,
            target.name,
            change,
            namespace=target.namespace,
            subresource=target.subresource,
            dry_run=dry_run(request),
        )
        return self._answer(request, obj, target, warnings=warnings)

    async def delete(self, request: web.Request, target: Target) -> web.Response:
        options = await delete_options(request, self.decoder)
        resource = target.resource
        before = await self._store.get(resource.key, target.name, namespace=target.namespace)
        obj = await self._store.delete(resource.key, target.name, namespace=target.namespace, **options)
        still_there = self._store.peek(resource.key, target.name, namespace=target.namespace)
        if still_there is not None and still_there["metadata"]["uid"] == before["metadata"]["uid"]:
            return self._answer(request, obj, target)
        uid = before["metadata"]["uid"]
        return json_response(success(name=target.name, group=resource.group, kind=resource.plural, uid=uid))

    async def delete_collection(self, request: web.Request, target: Target) -> web.Response:
        options = await delete_options(request, self.decoder)
        query = request.query
        selector = self._store.selector(
            target.resource.key, query.get("labelSelector", ""), query.get("fieldSelector", "")
        )
        listing = self._store.select(target.resource.key, namespace=target.namespace or None, selector=selector)
        for obj in listing.items:
            metadata = obj["metadata"]
            try:
                await self._store.delete(
                    target.resource.key, metadata["name"], namespace=metadata.get("namespace", ""), **options
                )
            except NotFound:
                continue  # An earlier deletion of this request took it along.
        metadata = {"resourceVersion": str(self._store.version)}
        return self._renderer.collection(listing.entries, target, Negotiation(), metadata=metadata)

    # ---- bodies --------------------------------------------------------------------------------------------------

    async def read_object(self, request: web.Request, target: Target) -> tuple[Object, list[str]]:
        """The object of the body without unknown fields, and warnings about them."""
        body = self.decoder.object(await request.read(), request.headers.get("Content-Type", ""))
        warnings: list[str] = []
        strict = request.query.get("fieldValidation", "Warn")
        return self.clean(body, target, strict, warnings), warnings

    def clean(self, obj: Object, target: Target, strict: str, warnings: list[str]) -> Object:
        """Check types, drop unknown fields. Raises BadRequest for unknown fields when `strict` is Strict."""
        resource = target.resource
        node = self._schemas.node(resource.group, target.version, resource.kind)
        cleaner = Cleaner(resource.kind)
        cleaned: Object = cleaner.clean(obj, node)
        if cleaner.unknown and strict == "Strict":
            listed = ", ".join(f'unknown field "{path}"' for path in cleaner.unknown)
            raise BadRequest(
                f'{resource.kind} in version "{target.version}" cannot be handled as a {resource.kind}: '
                f"strict decoding error: {listed}"
            )
        if strict != "Ignore":
            warnings.extend(f'unknown field "{path}"' for path in cleaner.unknown)
        return cleaned

    def _patched(self, media: str, old: Object, content: Any, target: Target) -> Object:
        match media:
            case "application/json-patch+json":
                patched = json_patch(old, content)
            case "application/merge-patch+json":
                patched = merge_patch(old, content)
            case "application/strategic-merge-patch+json" if not target.resource.custom:
                resource = target.resource
                node = self._schemas.node(resource.group, target.version, resource.kind)
                patched = strategic_merge(old, content, node)
            case _:
                raise UnsupportedMediaType(
                    f"the body of the request was in an unknown format - accepted media types include: "
                    f"application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml; "
                    f"got {media!r}"
                )
        if not isinstance(patched, dict):
            raise BadRequest("the patch leaves no object")
        return patched

    async def _apply(self, request: web.Request, target: Target, content: Any) -> web.Response:
        if not isinstance(content, dict):
            raise BadRequest("an apply configuration is an object")
        manager = request.query.get("fieldManager", "")
        if not manager:
            raise BadRequest(
                "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch"
            )
        warnings: list[str] = []
        content = self.clean(content, target, request.query.get("fieldValidation", "Warn"), warnings)
        resource = target.resource
        node = None if resource.custom else self._schemas.node(resource.group, target.version, resource.kind)
        current = self._store.peek(resource.key, target.name, namespace=target.namespace)
        metadata = {**(content.get("metadata") or {}), "name": target.name}
        content = {**content, "metadata": metadata}
        applied = apply_configuration(current, content, node=node, manager=manager, subresource=target.subresource)
        where: dict[str, Any] = {"namespace": target.namespace, "dry_run": dry_run(request)}
        if current is None:
            if target.subresource:
                raise NotFound(f'{resource.key} "{target.name}" not found')
            obj = await self._store.create(resource.key, applied, **where)
            return self._answer(request, obj, target, status=201, warnings=warnings)
        obj = await self._store.patch(
            resource.key, target.name, lambda _: applied, subresource=target.subresource, **where
        )
        return self._answer(request, obj, target, warnings=warnings)

    def _answer(
        self,
        request: web.Request,
        obj: Object,
        target: Target,
        *,
        status: int = 200,
        warnings: list[str] | None = None,
    ) -> web.Response:
        return self._renderer.single(
            obj,
            target,
            negotiate(request.headers.get("Accept", "")),
            status=status,
            warnings=warnings or (),
            include=request.query.get("includeObject", "Metadata"),
        )


def dry_run(request: web.Request) -> bool:
    """Raises BadRequest for anything but `All`."""
    values = request.query.getall("dryRun", [])
    if any(value != "All" for value in values):
        raise BadRequest(f'dryRun: Unsupported value: {values}: supported values: "All"')
    return bool(values)


async def delete_options(request: web.Request, decoder: Decoder) -> dict[str, Any]:
    """DeleteOptions of body and query as keyword arguments of `Store.delete`."""
    raw = await request.read()
    body: Object = decoder.object(raw, request.headers.get("Content-Type", "")) if raw else {}
    query = request.query
    grace = body.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
    if grace is not None and (not str(grace).isdigit()):
        raise BadRequest(f"gracePeriodSeconds: Invalid value: {grace!r}: must be a number of seconds, 0 or more")
    propagation = body.get("propagationPolicy") or query.get("propagationPolicy")
    if propagation is None and "true" in (str(body.get("orphanDependents")).lower(), query.get("orphanDependents")):
        propagation = "Orphan"
    if propagation not in (None, "Background", "Foreground", "Orphan"):
        raise BadRequest(
            f"propagationPolicy: Unsupported value: {propagation!r}: want Background, Foreground or Orphan"
        )
    preconditions = body.get("preconditions") or {}
    return {
        "grace_seconds": int(grace) if grace is not None else None,
        "propagation": propagation,
        "uid": preconditions.get("uid"),
        "version": preconditions.get("resourceVersion"),
        "dry_run": dry_run(request) or "All" in (body.get("dryRun") or ()),
    }


def _page(entries: list[Entry], version: int, limit: str, token: str) -> tuple[list[Entry], Object]:
    """One page of a list and its metadata. A continued list keeps the version of its first page, so that a watch from
    there replays whatever changed between the pages."""
    if token:
        version, after = _read_token(token)
        entries = [e for e in entries if _key(e) > after]
    metadata: Object = {"resourceVersion": str(version)}
    size = int(limit) if limit.isdigit() else 0
    if size and len(entries) > size:
        metadata["remainingItemCount"] = len(entries) - size
        entries = entries[:size]
        raw = msgspec.json.encode({"rv": version, "after": _key(entries[-1])})
        metadata["continue"] = base64.urlsafe_b64encode(raw).decode()
    return entries, metadata


def _read_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        content = msgspec.json.decode(base64.urlsafe_b64decode(token))
        namespace, name = content["after"]
        return int(content["rv"]), (namespace, name)
    except (ValueError, KeyError, TypeError, msgspec.DecodeError) as error:
        raise Expired("continue key is not valid: list again from the start") from error


def _key(entry: Entry) -> tuple[str, str]:
    metadata = entry.object["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
