"""The envelopes of the Kubernetes API: list pages, watch events, Status, and the metadata every object has.

In: JSON. Out: structs whose objects are still JSON (`msgspec.Raw`): what an object means is the affair of its decoder.
"""

from __future__ import annotations

import msgspec


class ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Page(msgspec.Struct, frozen=True):
    """One page of a list."""

    metadata: ListMeta = ListMeta()
    items: list[msgspec.Raw] | None = None


class WatchEvent(msgspec.Struct, frozen=True):
    """`type` is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR (then `object` is a Status)."""

    type: str
    object: msgspec.Raw


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """The part of `metadata` that says which object, in which version."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""

    @property
    def path(self) -> str:
        """`namespace/name`, or the name of an object of the cluster."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class _Object(msgspec.Struct, frozen=True):
    metadata: Meta = Meta()


class Status(msgspec.Struct, frozen=True):
    """How the API says no. `reason` is a word for machines (AlreadyExists, Conflict, Expired, …)."""

    code: int = 0
    reason: str = ""
    message: str = ""


def parse_page(data: bytes) -> Page:
    """Raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=Page)


def parse_event(line: bytes) -> WatchEvent:
    """Raises msgspec.DecodeError."""
    return msgspec.json.decode(line, type=WatchEvent)


def parse_meta(data: bytes | msgspec.Raw) -> Meta:
    """Raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=_Object).metadata


def parse_status(data: bytes | msgspec.Raw) -> Status:
    """A Status with nothing in it if `data` is none."""
    try:
        return msgspec.json.decode(data, type=Status)
    except msgspec.DecodeError:
        return Status()
