"""What a resource may say about its own writes.

Owns: the hooks between a request and the store. Comes in: a private copy of the object about to be written. Goes out:
the object with defaults, or causes why it is refused. The base class is what most resources need.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from kubelab.apiserver.errors import Cause
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.schemas import Node

Object = dict[str, Any]


class Reader(Protocol):
    """What strategies may look at in the store."""

    def peek(self, resource: str, name: str, *, namespace: str = "") -> Object | None: ...
    def peek_all(self, resource: str, *, namespace: str | None = None) -> Sequence[Object]: ...


class Strategy:
    """Hooks in the order in which they run. All are synchronous: a write is one step."""

    creates_status: ClassVar[bool] = False
    "Whether an object may be created together with its status."

    def __init__(self, resource: Resource, node: Node | None = None) -> None:
        self.resource = resource
        self.node = node

    def default(self, obj: Object) -> None:
        """Fill in what the user left out (also run before updates)."""

    def prepare_create(self, obj: Object, store: Reader) -> None:
        """Drop what users may not set; allocate. May raise an ApiError."""
        if self.resource.has_status:
            obj.pop("status", None)

    def prepare_update(self, obj: Object, old: Object, store: Reader) -> None:
        """Carry over what this write may not change. May raise an ApiError."""

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        """Every fault of the object; `old` is None on create."""
        return []

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        return []

    def status_update(self, obj: Object, old: Object) -> Object:
        """What a write to the status subresource stores: status, labels and annotations of `obj`, else `old`."""
        metadata = dict(old["metadata"])
        for name in ("labels", "annotations", "managedFields"):
            if name in obj["metadata"]:
                metadata[name] = obj["metadata"][name]
            else:
                metadata.pop(name, None)
        merged = {**old, "metadata": metadata}
        if "status" in obj:
            merged["status"] = obj["status"]
        else:
            merged.pop("status", None)
        return merged

    def grace_seconds(self, obj: Object, asked: int | None) -> int:
        """How long the object stays with a deletionTimestamp before it goes; 0 for most."""
        return 0

    def may_delete(self, obj: Object) -> None:
        """May raise an ApiError (the namespace `default` stays)."""

    def holds_deletion(self, obj: Object) -> bool:
        """True: something besides metadata.finalizers keeps a deleted object (namespaces: spec.finalizers)."""
        return False

    def spec_changed(self, obj: Object, old: Object) -> bool:
        """Whether metadata.generation moves."""
        return obj.get("spec") != old.get("spec")


class Strategies(Protocol):
    """The strategy of each resource."""

    def __call__(self, resource: Resource) -> Strategy: ...


def plain(resource: Resource) -> Strategy:
    return Strategy(resource)


def labels_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}
