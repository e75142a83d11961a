"""Server-side apply.

Owns: what an apply configuration makes of an object. Comes in: the object (or None), the configuration, the schema, the
manager. Goes out: the object to store, with its managedFields; or a Conflict that names every field that another
manager would lose. A field that the manager applied before and leaves out now goes, unless another one owns it too.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from kubelab import timestamps
from kubelab.apiserver.errors import Cause, Conflict, ServerFault
from kubelab.apiserver.ownership import managers
from kubelab.apiserver.ownership.managers import Identity, Managed, bare, unowned
from kubelab.apiserver.ownership.sets import Set, difference, intersection, paths, union
from kubelab.apiserver.ownership.values import UntypedError, compare, field_set, merge, prune
from kubelab.apiserver.schemas import Node

Object = dict[str, Any]
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_KUBECTL = "kubectl"


@dataclass(frozen=True, slots=True)
class Applier:
    manager: str
    force: bool = False
    subresource: str = ""


def apply(live: Object | None, wanted: Object, node: Node | None, applier: Applier, *, builtin: bool) -> Object:
    """The object to store. Raises Conflict, ServerFault for lists that cannot be merged."""
    before = ((live or {}).get("metadata") or {}).get("managedFields") or []
    managed = Managed(before)
    version = wanted["apiVersion"]
    if live is not None and not managed.entries:
        first: Identity = ("before-first-apply", "Update", "", version)
        everything = unowned(compare({}, bare(live), node, builtin=builtin).added)
        managed.put(first, everything, api_version=version, now=timestamps.now())
    who: Identity = (applier.manager, "Apply", applier.subresource, "")
    last = managed.fields(who)
    try:
        mine = unowned(field_set(bare(wanted), node))
    except UntypedError as error:
        raise ServerFault(f"failed to create typed patch object ({_what(wanted)}): {error}") from error
    merged = merge(live or {}, wanted, node)
    owned = mine
    for other in managed.others(who):
        owned = union(owned, managed.fields(other))
    merged = {**prune(merged, last, owned, node)} if last else dict(merged)
    merged["metadata"] = {**merged["metadata"]}
    changes = compare(bare(live), bare(merged), node, builtin=builtin)
    touched = union(changes.added, changes.modified)
    _refuse_conflicts(live, managed, who, touched, applier, node)
    managers.give_way(managed, who, changes, touched)
    managed.put(who, mine, api_version=version, now=timestamps.now())
    if applier.manager == _KUBECTL and not applier.subresource:
        _follow(merged, wanted)
    managers.settle(merged, managed.result(), before)
    return merged


def _refuse_conflicts(
    live: Object | None, managed: Managed, who: Identity, touched: Set, applier: Applier, node: Node | None
) -> None:
    if applier.force or not touched:
        return
    found = {other: intersection(managed.fields(other), touched) for other in managed.others(who)}
    found = {other: fields for other, fields in found.items() if fields}
    if not found:
        return
    if applier.manager == _KUBECTL and live is not None:
        # What kubectl itself applied on the client before belongs to it.
        allowed = _last_applied_fields(live, node)
        found = {other: left for other, fields in found.items() if (left := difference(fields, allowed))}
    conflicts = [(_named(managed.entries[other]), path) for other, fields in found.items() for path in paths(fields)]
    if conflicts:
        causes = [Cause(path, "FieldManagerConflict", f"conflict with {name}") for name, path in conflicts]
        raise Conflict(_message(conflicts), causes=causes)


def _message(conflicts: list[tuple[str, str]]) -> str:
    if len(conflicts) == 1:
        name, path = conflicts[0]
        return f"Apply failed with 1 conflict: conflict with {name}: {path}"
    lines = []
    for name in sorted({name for name, _ in conflicts}):
        lines.append(f"conflicts with {name}:")
        lines.extend(f"- {path}" for known, path in conflicts if known == name)
    return f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)


def _named(entry: Object) -> str:
    text = f'"{entry["manager"]}"'
    if entry.get("subresource"):
        text += f' with subresource "{entry["subresource"]}"'
    if entry["operation"] == "Update":
        text += f" using {entry.get('apiVersion', '')}"
        if entry.get("time"):
            text += f" at {entry['time']}"
    return text


def _last_applied(obj: Object) -> Object | None:
    text = (obj["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    try:
        found = msgspec.json.decode(text) if text else None
    except msgspec.DecodeError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("metadata"), dict) else None


def _last_applied_fields(live: Object, node: Node | None) -> Set:
    last = _last_applied(live)
    try:
        return field_set(bare(last), node) if last is not None else {}
    except UntypedError:
        return {}


def _follow(merged: Object, wanted: Object) -> None:
    """An object that knows what was applied on the client is told what is applied here: either way may follow."""
    annotations = merged["metadata"].get("annotations") or {}
    if LAST_APPLIED not in annotations:
        return
    metadata = {k: v for k, v in wanted["metadata"].items() if k != "managedFields"}
    own = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != LAST_APPLIED}
    text = msgspec.json.encode({**wanted, "metadata": {**metadata, "annotations": own}}, order="sorted").decode()
    merged["metadata"]["annotations"] = {**annotations, LAST_APPLIED: text + "\n"}


def _what(obj: Object) -> str:
    metadata = obj["metadata"]
    name = "/".join(filter(None, (metadata.get("namespace"), metadata.get("name"))))
    return f"{name}; {obj.get('apiVersion')}, Kind={obj.get('kind')}"
