"""The options of a request.

Owns: dryRun, fieldManager, fieldValidation, force, DeleteOptions and ListOptions as they stand in queries and bodies.
Comes in: requests. Goes out: checked values; each fault is the Invalid error of the options' kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from kubelab.apiserver.decoding import Decoder
from kubelab.apiserver.errors import BadRequest, Cause, invalid

Object = dict[str, Any]
_KINDS = {"POST": "CreateOptions", "PUT": "UpdateOptions", "PATCH": "PatchOptions", "DELETE": "DeleteOptions"}
_PROPAGATION = ("Foreground", "Background", "Orphan")
_MAX_MANAGER = 128
EXACT, NOT_OLDER = "Exact", "NotOlderThan"


def _refuse(kind: str, causes: Sequence[Cause]) -> None:
    if causes:
        raise invalid(group="meta.k8s.io", kind=kind, name="", causes=causes)


def _unsupported(field: str, value: Any, *supported: str) -> Cause:
    listed = ", ".join(f'"{s}"' for s in supported)
    shown = msgspec.json.encode(value).decode()
    return Cause(field, "FieldValueNotSupported", f"Unsupported value: {shown}: supported values: {listed}")


def _forbidden(field: str, why: str) -> Cause:
    return Cause(field, "FieldValueForbidden", f"Forbidden: {why}")


def dry_run(request: web.Request) -> bool:
    """Raises Invalid for anything but `All`."""
    return _dry_run(_KINDS.get(request.method, "CreateOptions"), request.query.getall("dryRun", []))


def _dry_run(kind: str, values: Sequence[str]) -> bool:
    if any(value != "All" for value in values):
        _refuse(kind, [_unsupported("dryRun", list(values), "All")])
    return bool(values)


def validation(request: web.Request) -> str:
    """Strict, Warn or Ignore: what becomes of fields that the kind does not have."""
    asked = request.query.get("fieldValidation", "") or "Warn"
    if asked not in ("Ignore", "Warn", "Strict"):
        kind = _KINDS.get(request.method, "CreateOptions")
        _refuse(kind, [_unsupported("fieldValidation", asked, "", "Ignore", "Strict", "Warn")])
    return asked


def field_manager(request: web.Request) -> str:
    """The manager of a write: as named, else the program of the User-Agent. Raises Invalid for a bad name."""
    named = request.query.get("fieldManager", "")
    kind = _KINDS.get(request.method, "CreateOptions")
    if len(named) > _MAX_MANAGER:
        message = f"Too long: may not be more than {_MAX_MANAGER} bytes"
        _refuse(kind, [Cause("fieldManager", "FieldValueTooLong", message)])
    if not named.isprintable():
        shown = msgspec.json.encode(named).decode()
        why = f"Invalid value: {shown}: should only contain printable characters"
        _refuse(kind, [Cause("fieldManager", "FieldValueInvalid", why)])
    agent = request.headers.get("User-Agent", "").partition("/")[0]
    return named or "".join(c for c in agent if c.isprintable())[:_MAX_MANAGER] or "unknown"


def force(request: web.Request, *, applies: bool) -> bool:
    """Whether an apply takes fields from other managers. Raises Invalid where it does not belong."""
    asked = request.query.get("force", "")
    if applies and not request.query.get("fieldManager"):
        _refuse(
            "PatchOptions", [Cause("fieldManager", "FieldValueRequired", "Required value: is required for apply patch")]
        )
    if asked and not applies:
        _refuse("PatchOptions", [_forbidden("force", "may not be specified for non-apply patch")])
    return asked in ("true", "1", "True")


async def delete_options(request: web.Request, decoder: Decoder) -> dict[str, Any]:
    """DeleteOptions of body and query as keyword arguments of `Store.delete`."""
    raw = await request.read()
    body: Object = decoder.object(raw, request.headers.get("Content-Type", "")) if raw else {}
    query = request.query
    grace = body.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
    if grace is not None and not str(grace).removeprefix("-").isdigit():
        raise BadRequest(f"gracePeriodSeconds: Invalid value: {grace!r}: want a number of seconds")
    propagation = body.get("propagationPolicy") or query.get("propagationPolicy")
    orphan = body.get("orphanDependents", query.get("orphanDependents"))
    if orphan is not None and propagation is not None:
        why = f'Invalid value: "{propagation}": orphanDependents and deletionPropagation cannot be both set'
        _refuse("DeleteOptions", [Cause("propagationPolicy", "FieldValueInvalid", why)])
    if propagation not in (None, *_PROPAGATION):
        _refuse("DeleteOptions", [_unsupported("propagationPolicy", propagation, *_PROPAGATION, "nil")])
    if orphan is not None:
        propagation = "Orphan" if str(orphan).lower() == "true" else "Background"
    preconditions = body.get("preconditions") or {}
    return {
        # A negative period means one second.
        "grace_seconds": (int(grace) if int(grace) >= 0 else 1) if grace is not None else None,
        "propagation": propagation,
        "uid": preconditions.get("uid"),
        "version": preconditions.get("resourceVersion"),
        "dry_run": dry_run(request) or _dry_run("DeleteOptions", body.get("dryRun") or ()),
    }


@dataclass(frozen=True, slots=True)
class ListOptions:
    """`match` "" with a version means: not older than that, except for pages, which mean exactly that."""

    labels: str
    fields: str
    version: str
    match: str
    limit: int
    token: str

    @property
    def exact(self) -> bool:
        pages = bool(self.limit) and not self.match
        return self.match == EXACT or (pages and self.version not in ("", "0"))

    @property
    def selects(self) -> bool:
        return bool(self.labels or self.fields)


def list_options(query: Mapping[str, str]) -> ListOptions:
    """Raises Invalid for options that do not go together, BadRequest for a version that is none."""
    version, match, token = (
        query.get("resourceVersion", ""),
        query.get("resourceVersionMatch", ""),
        query.get("continue", ""),
    )
    field, causes = "resourceVersionMatch", []
    if match:
        if not version:
            causes.append(_forbidden(field, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
        if token:
            causes.append(_forbidden(field, "resourceVersionMatch is forbidden when continue is provided"))
        if match not in (EXACT, NOT_OLDER):
            causes.append(_unsupported(field, match, EXACT, NOT_OLDER, ""))
        if match == EXACT and version == "0":
            why = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            causes.append(_forbidden(field, why))
    if "sendInitialEvents" in query:
        causes.append(_forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    _refuse("ListOptions", causes)
    if token and version not in ("", "0"):
        raise BadRequest("specifying resource version is not allowed when using continue")
    limit = query.get("limit", "")
    if limit and not limit.removeprefix("-").isdigit():
        raise BadRequest(f'strconv.ParseInt: parsing "{limit}": invalid syntax')
    number(version)
    size = max(int(limit or 0), 0)
    labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
    return ListOptions(labels, fields, version, match, size, token)


@dataclass(frozen=True, slots=True)
class WatchOptions:
    labels: str
    fields: str
    since: int | None
    "None: from a list of what there is; -1: from now on."
    initial: bool
    "The client asked for the list as events (watch-list)."
    bookmarks: bool


def watch_options(query: Mapping[str, str]) -> WatchOptions:
    """Raises Invalid for options that do not go together, BadRequest for a version that is none."""
    version, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    asked, field, causes = query.get("sendInitialEvents"), "resourceVersionMatch", []
    if asked is not None and match != NOT_OLDER:
        why = f"sendInitialEvents requires setting resourceVersionMatch to {NOT_OLDER}"
        causes.append(_forbidden(field, why))
    if match:
        if asked is None:
            why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            causes.append(_forbidden(field, why))
        if match != NOT_OLDER:
            causes.append(_unsupported(field, match, NOT_OLDER))
        if query.get("continue"):
            causes.append(_forbidden(field, "resourceVersionMatch is forbidden when continue is provided"))
    _refuse("ListOptions", causes)
    initial = asked in ("true", "1")
    known = number(version)
    since = None if initial or known == 0 else known
    if asked is not None and not initial and known == 0:
        since = -1
    return WatchOptions(
        labels=query.get("labelSelector", ""),
        fields=query.get("fieldSelector", ""),
        since=since,
        initial=initial,
        bookmarks=query.get("allowWatchBookmarks") in ("true", "1"),
    )


def number(version: str) -> int:
    """A resourceVersion as a number, 0 for none. Raises BadRequest."""
    if not version:
        return 0
    if not (version.isascii() and version.isdigit()):
        raise BadRequest(
            f'resourceVersion: Invalid value: "{version}": strconv.ParseUint: parsing "{version}": invalid syntax'
        )
    return int(version)
