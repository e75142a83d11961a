"""Lists in pages, of one moment.

Owns: which entries a list request means, and continue tokens. A token names the version of the first page and the last
object that was sent; the later pages are of that version, which the change window of the resource can bring back. Comes
in: list options. Goes out: entries and list metadata; Expired, with a token that goes on in the present, when the
window is past that version.
"""

import base64
import binascii
from typing import Any

import msgspec

from kubelab.apiserver.errors import BadRequest, Expired, too_large
from kubelab.apiserver.objects import Listing, Objects
from kubelab.apiserver.options import ListOptions, number
from kubelab.apiserver.selectors import Selector
from kubelab.apiserver.watch import Entry

Object = dict[str, Any]
Position = tuple[str, str]
_PRESENT = -1
_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


def page(store: Objects, resource: str, *, namespace: str | None, options: ListOptions) -> tuple[list[Entry], Object]:
    """The entries of one page and the metadata of its list."""
    selector = store.selector(resource, options.labels, options.fields)
    after: Position | None = None
    if options.token:
        version, after = _read_token(options.token)
        listing = _continued(store, resource, namespace, selector, version, after)
    else:
        wanted = number(options.version)
        if wanted > store.version:
            raise too_large(wanted, store.version)
        listing = store.select(resource, namespace=namespace, selector=selector, at=wanted if options.exact else None)
    entries = listing.entries
    if after is not None:
        entries = [e for e in entries if _position(e) > after]
    metadata: Object = {"resourceVersion": str(listing.version)}
    if options.limit and len(entries) > options.limit:
        if not options.selects:
            metadata["remainingItemCount"] = len(entries) - options.limit
        entries = entries[: options.limit]
        metadata["continue"] = _token(listing.version, _position(entries[-1]))
    return entries, metadata


def _continued(
    store: Objects, resource: str, namespace: str | None, selector: Selector, version: int, after: Position
) -> Listing:
    if version == _PRESENT:
        return store.select(resource, namespace=namespace, selector=selector)
    try:
        return store.select(resource, namespace=namespace, selector=selector, at=version)
    except Expired as error:
        raise Expired(_TOO_OLD, metadata={"continue": _token(_PRESENT, after)}) from error


def _token(version: int, after: Position) -> str:
    raw = msgspec.json.encode({"v": "meta.k8s.io/v1", "rv": version, "start": "/".join(after)})
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, Position]:
    try:
        content = msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, _, name = content["start"].rpartition("/")
        return int(content["rv"]), (namespace, name)
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, msgspec.DecodeError) as error:
        raise BadRequest(f"continue key is not valid: {error}") from error


def _position(entry: Entry) -> Position:
    metadata = entry.object["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
