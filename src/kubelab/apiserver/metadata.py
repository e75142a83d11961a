"""What every write does to the metadata of an object.

Owns: identity, generated names, what no update may change, the marks of a deletion, preconditions. Comes in: the
resource, the object about to be written, the one that is stored. Goes out: the same object, changed in place; or an
ApiError.
"""

import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Any

from kubelab import timestamps
from kubelab.apiserver import errors
from kubelab.apiserver.errors import BadRequest
from kubelab.apiserver.resources import Resource

Object = dict[str, Any]
_CONSONANTS = "bcdfghjklmnpqrstvwxz2456789"
_MAX_GENERATED = 63
_SERVERS = ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion", "generation")
_FIXED = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName")


def identify(known: Resource, obj: Object, namespace: str) -> None:
    """Check that the body names the same resource and namespace as the call; fill in what it leaves out."""
    if not isinstance(obj.get("metadata"), dict):
        obj["metadata"] = {}
    kind = obj.setdefault("kind", known.kind)
    group, _, version = obj.setdefault("apiVersion", known.api_version()).rpartition("/")
    if kind != known.kind or group != known.group or version not in known.versions:
        given, place = obj["apiVersion"].rpartition("/")[2], known.group.partition(".")[0] or "core"
        raise BadRequest(
            f'{kind} in version "{given}" cannot be handled as a {known.kind}: '
            f"converting ({given}.{kind}) to ({place}.{known.kind}): unknown conversion"
        )
    # Objects are kept in one version; what is not converted is only renamed.
    obj["apiVersion"] = known.api_version()
    metadata = obj["metadata"]
    if not known.namespaced:
        metadata.pop("namespace", None)
        return
    namespace = namespace or metadata.get("namespace") or ""
    if metadata.get("namespace") and metadata["namespace"] != namespace:
        raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
    if not namespace:
        raise BadRequest(f"{known.kind}: an empty namespace may not be set; name one in metadata.namespace")
    metadata["namespace"] = namespace


def check_namespace(known: Resource, metadata: Object, namespace: Object | None) -> None:
    """Raises NotFound for a namespace that is not there, Forbidden for one that is going."""
    name = metadata["namespace"]
    if namespace is None:
        raise errors.not_found(group="", plural="namespaces", name=name)
    if "deletionTimestamp" in namespace["metadata"]:
        why = f"unable to create new content in namespace {name} because it is being terminated"
        cause = errors.Cause("metadata.namespace", "NamespaceTerminating", f"namespace {name} is being terminated")
        raise errors.forbidden(
            group=known.group, plural=known.plural, name=metadata.get("name", ""), why=why, causes=[cause]
        )


def generate_name(known: Resource, metadata: Object, taken: Callable[[str], bool]) -> str:
    """A free name that begins with metadata.generateName. Raises Invalid without one."""
    prefix = metadata.get("generateName")
    if not prefix:
        cause = errors.Cause("metadata.name", "FieldValueRequired", "Required value: name or generateName is required")
        raise errors.invalid(group=known.group, kind=known.kind, name="", causes=[cause])
    while True:
        name = prefix[: _MAX_GENERATED - 5] + "".join(secrets.choice(_CONSONANTS) for _ in range(5))
        if not taken(name):
            return str(name)


def stamp_creation(known: Resource, metadata: Object, *, uid: str, now: datetime) -> None:
    for name in _SERVERS:
        metadata.pop(name, None)
    metadata["uid"] = uid
    metadata["creationTimestamp"] = timestamps.seconds(now)
    if known.generation:
        metadata["generation"] = 1


def keep(obj: Object, old: Object) -> None:
    """What no update may change."""
    for name in _FIXED:
        obj["metadata"].pop(name, None)
        if name in old["metadata"]:
            obj["metadata"][name] = old["metadata"][name]


def mark_deleted(known: Resource, obj: Object, *, grace: int, now: datetime) -> None:
    metadata = obj["metadata"]
    metadata["deletionTimestamp"] = timestamps.seconds(now.timestamp() + grace)
    metadata["deletionGracePeriodSeconds"] = grace
    if known.generation:
        metadata["generation"] = metadata.get("generation", 0) + 1
    if known.key == "namespaces":
        obj["status"] = {**obj.get("status", {}), "phase": "Terminating"}


def check_preconditions(
    known: Resource, old: Object, *, uid: str | None, version: str | None, deletes: bool = False
) -> None:
    """Raises Conflict when the stored object is not the one that the caller means."""
    metadata = old["metadata"]
    why = ""
    if uid and uid != metadata["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {metadata['uid']}"
    elif version and version != "0" and version != metadata["resourceVersion"]:
        if not deletes:
            raise errors.conflict(group=known.group, plural=known.plural, name=metadata["name"])
        why = (
            f"Precondition failed: ResourceVersion in precondition: {version}, "
            f"ResourceVersion in object meta: {metadata['resourceVersion']}"
        )
    if why:
        raise errors.conflict(group=known.group, plural=known.plural, name=metadata["name"], why=why)
