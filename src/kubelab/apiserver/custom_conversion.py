"""Custom objects in the versions of their CRD.

Owns: conversion between the versions that a CRD serves. Comes in: objects in any of them. Goes out: the same objects in
the wanted one: renamed (strategy None) or as the CRD's conversion webhook makes them, without fields that this version
does not have and with its defaults; InternalError in the words of the real server.
Source: Kubernetes documentation "Versions in CustomResourceDefinitions".
"""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kubelab.apiserver.conversion import from_stored, is_stored, to_stored
from kubelab.apiserver.copies import clone
from kubelab.apiserver.decoding import Cleaner
from kubelab.apiserver.errors import InternalError, ServerFault, invalid
from kubelab.apiserver.requests import Target
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.schemas import Node, Schemas
from kubelab.apiserver.store import Store
from kubelab.apiserver.strategies.definitions import CRDS
from kubelab.apiserver.structural import apply_defaults, validate
from kubelab.apiserver.watch import Entry, Event
from kubelab.apiserver.webhooks.client import CallError, WebhookClient

Object = dict[str, Any]
GROUP = "apiextensions.k8s.io"
_TIMEOUT = 30
_FIXED = ("name", "namespace", "uid")


class Conversions:
    def __init__(self, store: Store, schemas: Schemas, client: WebhookClient) -> None:
        self._store, self._schemas, self._client = store, schemas, client

    async def convert(
        self, resource: Resource, objects: Sequence[Object], version: str, *, defaults: bool = True
    ) -> list[Object]:
        """All of `objects` in `version`. What is in it already comes back as it is."""
        wanted = resource.api_version(version)
        others = [obj for obj in objects if obj.get("apiVersion") != wanted]
        if not others:
            return list(objects)
        rule = self._rule(resource)
        if rule.get("strategy") == "Webhook":
            converted = await self._asked(resource, rule["webhook"], others, wanted)
        else:
            converted = [{**obj, "apiVersion": wanted} for obj in others]
        made = iter([self._shaped(resource, obj, version, defaults) for obj in converted])
        return [obj if obj.get("apiVersion") == wanted else next(made) for obj in objects]

    # ---- what handlers ask for ---------------------------------------------------------------------------------

    async def shown(self, obj: Object, target: Target) -> Object:
        """What is kept, as the asked group and version show it."""
        if target.resource.custom:
            return (await self.convert(target.resource, [obj], target.version))[0]
        return from_stored(obj, target)

    async def kept(self, obj: Object, target: Target, node: Node | None, *, partial: bool = False) -> Object:
        """What a client sent, in the form in which it is kept. Raises Invalid for what is none of its version.
        `partial`: an apply configuration, which says some fields only."""
        resource = target.resource
        if not resource.custom:
            return to_stored(obj, target)
        if target.version == resource.storage_version:
            return obj
        sent = {**obj, "apiVersion": resource.api_version(target.version), "kind": obj.get("kind", resource.kind)}
        sent["metadata"] = sent.get("metadata") or {}
        if node is not None and not partial:
            sent = clone(sent)
            apply_defaults(sent, node)
            if causes := list(validate(sent, node)):
                name = sent["metadata"].get("name") or target.name
                raise invalid(group=resource.group, kind=resource.kind, name=name, causes=causes)
        return (await self.convert(resource, [sent], resource.storage_version, defaults=not partial))[0]

    async def entries(self, entries: Sequence[Entry], target: Target) -> Sequence[Entry]:
        """What became another object has no JSON yet."""
        if is_stored(target) or not entries:
            return entries
        objects = await self._converted([entry.object for entry in entries], target)
        return [
            entry if obj is entry.object else replace(entry, object=obj, raw=b"")
            for entry, obj in zip(entries, objects, strict=True)
        ]

    async def events(self, events: Sequence[Event], target: Target) -> Sequence[Event]:
        if is_stored(target) or not events:
            return events
        version = target.resource.api_version(target.version)
        made = iter(await self._converted([event.object for event in events if event.type != "BOOKMARK"], target))
        shown = []
        for event in events:
            obj = {**event.object, "apiVersion": version} if event.type == "BOOKMARK" else next(made)
            shown.append(event if obj is event.object else replace(event, object=obj, raw=b""))
        return shown

    async def _converted(self, objects: list[Object], target: Target) -> list[Object]:
        if target.resource.custom:
            return await self.convert(target.resource, objects, target.version)
        return [from_stored(obj, target) for obj in objects]

    # ---- one CRD ---------------------------------------------------------------------------------------------------

    def _rule(self, resource: Resource) -> Object:
        crd = self._store.peek(CRDS, resource.key)
        return (crd["spec"].get("conversion") or {}) if crd is not None else {}

    def _shaped(self, resource: Resource, obj: Object, version: str, defaults: bool) -> Object:
        """As the schema of the version has it."""
        node = self._schemas.node(resource.group, version, resource.kind)
        if node is None:
            return obj
        shaped: Object = clone(Cleaner(resource.kind, check_types=False).clean(obj, node))
        if defaults:
            apply_defaults(shaped, node)
        return shaped

    async def _asked(self, resource: Resource, webhook: Object, objects: list[Object], wanted: str) -> list[Object]:
        subject = f"conversion webhook for {objects[0]['apiVersion']}, Kind={resource.kind}"
        versions = webhook.get("conversionReviewVersions") or ()
        version = next((v for v in versions if v in ("v1", "v1beta1")), None)
        if version is None:
            raise InternalError("no supported conversion review versions")
        uid = str(uuid.uuid4())
        review = {
            "kind": "ConversionReview",
            "apiVersion": f"{GROUP}/{version}",
            "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": [_sent(obj) for obj in objects]},
        }
        try:
            answer = await self._client.call(webhook["clientConfig"], review, timeout=_TIMEOUT)
            converted = _converted(answer, uid, version)
        except (CallError, ValueError) as error:
            raise ServerFault(f"{subject} failed: {error}") from error
        if len(converted) != len(objects):
            raise ServerFault(f"{subject} returned {len(converted)} objects, expected {len(objects)}")
        return [
            _checked(subject, place, *pair, wanted) for place, pair in enumerate(zip(objects, converted, strict=True))
        ]


def _sent(obj: Object) -> Object:
    """Whose field is whose is nothing to convert."""
    return {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "managedFields"}}


def _converted(answer: Object, uid: str, version: str) -> list[Object]:
    """Raises ValueError saying what is wrong with the answer, or what the webhook says is wrong."""
    response = answer.get("response")
    if version == "v1":
        found = f"{answer.get('apiVersion', '')}, Kind={answer.get('kind', '')}"
        if found != f"{GROUP}/v1, Kind=ConversionReview":
            raise ValueError(f"expected webhook response of {GROUP}/v1, Kind=ConversionReview, got {found}")
    if not isinstance(response, dict):
        raise ValueError("no response provided")
    if version == "v1" and response.get("uid") != uid:
        raise ValueError(f'expected response.uid="{uid}", got "{response.get("uid", "")}"')
    result = response.get("result") or {}
    if result.get("status") != "Success":
        raise ValueError(
            result.get("message") or f"response.result.status was '{result.get('status', '')}', not 'Success'"
        )
    return response.get("convertedObjects") or []


def _checked(subject: str, place: int, original: Object, converted: Any, wanted: str) -> Object:
    """The converted object with the metadata of the original, but for labels and annotations."""
    failed = f"{subject} returned invalid converted object at index {place}"
    if not isinstance(converted, dict) or not isinstance(converted.get("metadata"), dict):
        raise ServerFault(f"{failed}: metadata is missing")
    if converted.get("apiVersion") != wanted:
        got = converted.get("apiVersion", "")
        raise ServerFault(f"{failed}: invalid groupVersion (expected {wanted}, received {got})")
    if converted.get("kind") != original["kind"]:
        got = converted.get("kind", "")
        raise ServerFault(f"{failed}: invalid kind (expected {original['kind']}, received {got})")
    before, after = original["metadata"], converted["metadata"]
    for name in _FIXED:
        if (before.get(name) or "") != (after.get(name) or ""):
            raise ServerFault(f"{failed}: must have the same {name}: {before.get(name, '')} != {after.get(name, '')}")
    kept = {k: v for k, v in before.items() if k not in ("labels", "annotations")}
    given = {k: after[k] for k in ("labels", "annotations") if after.get(k)}
    return {**converted, "metadata": {**kept, **given}}
