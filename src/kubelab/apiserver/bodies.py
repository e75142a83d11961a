"""From the body of a request to the object that is written.

Owns: reading objects and patches, and what becomes of fields that the kind does not have, or has twice. Comes in:
requests. Goes out: clean objects, and warnings for the client.
"""

from typing import Any

import msgspec
from aiohttp import web

from kubelab.apiserver.conversion import is_stored
from kubelab.apiserver.custom_conversion import Conversions
from kubelab.apiserver.decoding import Cleaner, Decoder, decode, decode_apply, duplicates
from kubelab.apiserver.errors import BadRequest, Cause, Invalid, UnsupportedMediaType
from kubelab.apiserver.options import validation
from kubelab.apiserver.patches import json_patch, merge_patch, strategic_merge
from kubelab.apiserver.protobuf import MEDIA_TYPE as PROTOBUF
from kubelab.apiserver.requests import Target
from kubelab.apiserver.schemas import Node, Schemas

Object = dict[str, Any]
JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"


class Bodies:
    def __init__(self, schemas: Schemas, decoder: Decoder, conversions: Conversions) -> None:
        self._schemas = schemas
        self._decoder = decoder
        self._conversions = conversions

    async def read(self, request: web.Request, target: Target) -> tuple[Object, list[str]]:
        """The object of the body without unknown fields, and warnings about them. Raises BadRequest."""
        raw, media = await request.read(), request.headers.get("Content-Type", "")
        body = self._decoder.object(raw, media)
        _check_version(body, target)
        strict, cleaner = validation(request), self._cleaner(target)
        cleaned: Object = cleaner.clean(body, self.node(target))
        faults = [f'unknown field "{path}"' for path in cleaner.unknown]
        if strict != "Ignore" and PROTOBUF not in media:
            faults += duplicates(raw, media)
        if faults and strict == "Strict":
            raise BadRequest(f"{'' if target.resource.custom else cleaner.complaint}{_strict(faults)}")
        return await self._to_stored(cleaned, target), faults if strict == "Warn" else []

    async def read_apply(self, request: web.Request, target: Target) -> tuple[Object, list[str]]:
        """An apply configuration, in YAML or JSON. Raises BadRequest."""
        raw = await request.read()
        content, faults = decode_apply(raw)
        if not isinstance(content, dict):
            raise BadRequest("error decoding YAML: an apply configuration is an object")
        _check_version(content, target)
        strict, cleaner = validation(request), self._cleaner(target)
        cleaned: Object = cleaner.clean(content, self.node(target), keep_empty=True)
        faults += [f'unknown field "{path}"' for path in cleaner.unknown]
        if faults and strict == "Strict":
            raise BadRequest(_strict(faults))
        kept = await self._to_stored(cleaned, target, partial=True)
        return kept, faults if strict == "Warn" else []

    async def read_patch(self, request: web.Request) -> "Patch":
        raw, media = await request.read(), request.content_type
        if media not in (JSON_PATCH, MERGE_PATCH, STRATEGIC):
            raise _unknown_format(JSON_PATCH, MERGE_PATCH, STRATEGIC, APPLY)
        return Patch(media, raw, decode(raw, "application/json"), validation(request))

    async def patched(self, patch: "Patch", old: Object, target: Target, warnings: list[str]) -> Object:
        """`old` with the patch. Raises Invalid, BadRequest for what it makes of it."""
        if not is_stored(target):
            old = await self._conversions.shown(old, target)
        match patch.media:
            case "application/json-patch+json":
                made = json_patch(old, patch.content)
            case "application/merge-patch+json":
                made = merge_patch(old, patch.content)
            case _ if not target.resource.custom:
                made = strategic_merge(old, patch.content, self.node(target))
            case _:
                raise _unknown_format(JSON_PATCH, MERGE_PATCH, APPLY)
        if not isinstance(made, dict):
            raise BadRequest("the patch leaves no object")
        cleaner = self._cleaner(target)
        # What the patch did not touch is as it is stored.
        changed = {name: value for name, value in made.items() if value is not old.get(name)}
        part: Object = cleaner.clean(changed, self.node(target))
        cleaned = {n: part.get(n, v) for n, v in made.items() if n not in changed or n in part}
        faults = [f'unknown field "{path}"' for path in cleaner.unknown]
        if patch.strict != "Ignore":
            faults += duplicates(patch.raw, "application/json")
        if faults and patch.strict == "Strict":
            message = f"Invalid value: {msgspec.json.encode(patch.raw.decode()).decode()}: {_strict(faults)}"
            cause = Cause("patch", "FieldValueInvalid", message)
            raise Invalid(f' "" is invalid: {cause}', causes=[cause])
        if patch.strict == "Warn":
            warnings.extend(faults)
        return await self._to_stored(cleaned, target)

    async def _to_stored(self, obj: Object, target: Target, *, partial: bool = False) -> Object:
        """What a client sent, in the form in which it is kept. Raises BadRequest, Invalid for what is none of its
        version."""
        if is_stored(target):
            return obj
        return await self._conversions.kept(obj, target, self.node(target), partial=partial)

    def node(self, target: Target) -> Node | None:
        resource = target.resource
        return self._schemas.node(resource.group, target.version, resource.kind)

    def _cleaner(self, target: Target) -> Cleaner:
        return Cleaner(target.resource.kind, target.version)


def _unknown_format(*accepted: str) -> UnsupportedMediaType:
    return UnsupportedMediaType(
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    )


def _check_version(body: Object, target: Target) -> None:
    """What names no version means that of the URL. Raises BadRequest for another one."""
    given, wanted = body.get("apiVersion"), target.resource.api_version(target.version)
    if given and given != wanted:
        raise BadRequest(f"the API version in the data ({given}) does not match the expected API version ({wanted})")


class Patch(msgspec.Struct, frozen=True):
    media: str
    raw: bytes
    content: Any
    strict: str


def _strict(faults: list[str]) -> str:
    return f"strict decoding error: {', '.join(faults)}"
