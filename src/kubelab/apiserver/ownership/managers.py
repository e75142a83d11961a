"""The entries of `metadata.managedFields`.

Owns: who manages which fields of an object, and how an update changes that. Comes in: the object before and after, the
manager. Goes out: the new list of entries. A field set stands in an object as encoded JSON (`msgspec.Raw`): it costs
nothing to copy, to compare and to send, and equal sets share their bytes. An entry whose set did not change stays the
same entry, time included.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec

from kubelab import timestamps
from kubelab.apiserver.errors import BadRequest
from kubelab.apiserver.ownership.sets import SELF, Set, difference, union
from kubelab.apiserver.ownership.values import Comparison, compare
from kubelab.apiserver.schemas import Node

Object = dict[str, Any]
Identity = tuple[str, str, str, str]
"Manager, operation, subresource and (of updates) API version."

MAX_UPDATE_MANAGERS = 10
ANCIENT = "ancient-changes"
_NOBODYS = frozenset(
    ("name", "namespace", "uid", "generation", "managedFields", "resourceVersion", "creationTimestamp", "selfLink")
)
_UNOWNED = frozenset(f"f:{name}" for name in _NOBODYS)


@lru_cache(maxsize=8192)
def _shared(encoded: bytes) -> msgspec.Raw:
    return msgspec.Raw(encoded)


@lru_cache(maxsize=8192)
def _decoded(encoded: bytes) -> Set:
    fields: Set = msgspec.json.decode(encoded)
    return fields


def encode(fields: Set) -> msgspec.Raw:
    return _shared(msgspec.json.encode(fields, order="sorted"))


def decode(entry: Object) -> Set:
    """The field set of an entry, shared: never to be changed."""
    fields = entry.get("fieldsV1") or {}
    return _decoded(bytes(fields)) if isinstance(fields, msgspec.Raw) else fields


def compact(metadata: Object) -> None:
    """Bring the entries of an object that was read as JSON into the form of stored ones, in place."""
    entries = metadata.get("managedFields")
    if entries:
        metadata["managedFields"] = [_compacted(e) for e in entries]


def _compacted(entry: Object) -> Object:
    fields = entry.get("fieldsV1")
    return {**entry, "fieldsV1": encode(fields)} if isinstance(fields, dict) else entry


def identity(entry: Object) -> Identity:
    operation = entry.get("operation", "")
    version = entry.get("apiVersion", "") if operation == "Update" else ""
    return entry.get("manager", ""), operation, entry.get("subresource", ""), version


def unowned(fields: Set) -> Set:
    """`fields` without what belongs to the server and not to any manager."""
    left = {k: v for k, v in fields.items() if k not in ("f:apiVersion", "f:kind")}
    if "f:metadata" in left:
        owned = {name: node for name, node in left["f:metadata"].items() if name not in _UNOWNED}
        if owned.keys() - {SELF}:
            left["f:metadata"] = owned
        else:
            del left["f:metadata"]
    return left


class Managed:
    """The entries of one object while a write changes them."""

    def __init__(self, entries: Iterable[Object]) -> None:
        self.entries = {identity(e): e for e in entries}

    def fields(self, who: Identity) -> Set:
        return decode(self.entries[who]) if who in self.entries else {}

    def others(self, who: Identity) -> list[Identity]:
        return [known for known in self.entries if known != who]

    def put(self, who: Identity, fields: Set, *, api_version: str, now: str) -> None:
        """Set what a manager owns; without any field its entry goes."""
        before = self.entries.get(who)
        if not fields:
            self.entries.pop(who, None)
        elif before is None or before.get("apiVersion") != api_version or decode(before) != fields:
            manager, operation, subresource, _ = who
            self.entries[who] = {
                "manager": manager,
                "operation": operation,
                "apiVersion": api_version,
                "time": now,
                "fieldsType": "FieldsV1",
                "fieldsV1": encode(fields),
                **({"subresource": subresource} if subresource else {}),
            }

    def reduce(self, who: Identity, gone: Set) -> None:
        """Take fields from a manager. Its time stays: it did nothing."""
        entry = self.entries[who]
        before = decode(entry)
        left = difference(before, gone)
        if not left:
            del self.entries[who]
        elif left != before:
            self.entries[who] = {**entry, "fieldsV1": encode(left)}

    def result(self) -> list[Object]:
        """The entries in the order in which the API shows them; of many updaters the oldest become one."""
        ordered = sorted(self.entries.values(), key=_order)
        updates = [e for e in ordered if e["operation"] == "Update" and not e.get("subresource")]
        if len(updates) <= MAX_UPDATE_MANAGERS:
            return ordered
        oldest = updates[: len(updates) - MAX_UPDATE_MANAGERS + 1]
        fields: Set = {}
        for entry in oldest:
            fields = union(fields, decode(entry))
        bucket = {**oldest[-1], "manager": ANCIENT, "fieldsV1": encode(fields)}
        gone = {id(e) for e in oldest}
        return sorted([bucket, *(e for e in ordered if id(e) not in gone)], key=_order)


def _order(entry: Object) -> tuple[str, str, str, str, str]:
    return (
        entry["operation"],
        entry.get("time") or "",
        entry["manager"],
        entry.get("subresource", ""),
        entry.get("apiVersion", ""),
    )


def update(
    old: Object | None, new: Object, node: Node | None, *, manager: str, subresource: str, builtin: bool
) -> None:
    """Record in `new`, in place, that `manager` changed `old` to it. `old` None: it creates."""
    live = _entries(old or {})
    managed = Managed(_asked(new["metadata"].pop("managedFields", None), live))
    changes = compare(bare(old), bare(new), node, builtin=builtin)
    if changes.added or changes.modified or changes.removed:
        version = new["apiVersion"]
        who: Identity = (manager, "Update", subresource, version)
        touched = unowned(union(changes.added, changes.modified))
        give_way(managed, who, changes, touched)
        if touched:
            mine = union(difference(managed.fields(who), changes.removed), touched)
            managed.entries.pop(who, None)
            managed.put(who, mine, api_version=version, now=timestamps.now())
        elif who in managed.entries:
            managed.reduce(who, changes.removed)
    settle(new, managed.result(), live)


def give_way(managed: Managed, who: Identity, changes: Comparison, touched: Set) -> None:
    """All others lose what `who` touched and what is gone."""
    gone = union(touched, changes.removed)
    if gone:
        for other in managed.others(who):
            managed.reduce(other, gone)


def settle(obj: Object, entries: list[Object], live: list[Object]) -> None:
    """Write the entries into an object; those that say what `live` said are the ones of `live`."""
    if entries == live:
        entries = live
    if entries:
        obj["metadata"]["managedFields"] = entries
    else:
        obj["metadata"].pop("managedFields", None)


def bare(obj: Object | None) -> Object:
    """What managers can own: without the entries themselves."""
    if not obj:
        return {}
    metadata = {k: v for k, v in obj["metadata"].items() if k not in _NOBODYS}
    return {**obj, "metadata": metadata} if metadata else {k: v for k, v in obj.items() if k != "metadata"}


def _entries(obj: Object) -> list[Object]:
    entries: list[Object] = (obj.get("metadata") or {}).get("managedFields") or []
    return entries


def _well_formed(fields: Any) -> bool:
    return isinstance(fields, dict) and all(
        (name == "." or name[:2] in ("f:", "k:", "v:", "i:")) and _well_formed(node) for name, node in fields.items()
    )


def _asked(asked: Any, live: list[Object]) -> list[Object]:
    """The entries to begin with. Clients may rewrite them; `[{}]` takes all away, none at all keeps those there are."""
    if not asked:
        return live
    if asked == [{}]:
        return []
    if not isinstance(asked, list) or not all(isinstance(e, dict) for e in asked):
        raise BadRequest("metadata.managedFields: want a list of entries")
    known = {identity(e): e for e in live}
    entries = []
    for given in asked:
        same = known.get(identity(given))
        if same is not None and given.get("fieldsV1") is same["fieldsV1"]:
            entries.append(same)
            continue
        entry = _compacted(given)
        fields = entry.get("fieldsV1")
        if entry.get("operation") not in ("Apply", "Update") or not isinstance(fields, msgspec.Raw):
            return live
        if not _well_formed(decode(entry)) or not all(isinstance(part, str) for part in identity(entry)):
            return live
        unchanged = same is not None and bytes(same["fieldsV1"]) == bytes(fields)
        entries.append(same if same is not None and unchanged else entry)
    return entries
