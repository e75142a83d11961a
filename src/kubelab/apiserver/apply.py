"""Server-side apply as a merge.

Owns: what an apply configuration changes. Comes in: the current object, the configuration, the schema, the manager.
Goes out: the object to store, with one managedFields entry per applying manager. A field that a manager applied before
and leaves out now is removed, unless another manager applied it too. Conflicts between managers are not reported: the
last one wins. Source: Kubernetes documentation "Server-Side Apply".
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kubelab.apiserver.patches import SchemaNode, merge_patch, strategic_merge

Object = dict[str, Any]
Path = tuple[str, ...]
_IDENTITY = frozenset({"apiVersion", "kind"})


def apply_configuration(
    current: Object | None,
    configuration: Object,
    *,
    node: SchemaNode | None,
    manager: str,
    subresource: str,
) -> Object:
    """Merge `configuration` over `current`. `node` None: no lists merge (custom resources)."""
    configuration = _without(configuration, ("metadata", "managedFields"))
    paths = set(_leaves(configuration))
    base: Object = current or {}
    entries = list(base.get("metadata", {}).get("managedFields") or [])
    mine = [e for e in entries if _is(e, manager, subresource)]
    others = [e for e in entries if not _is(e, manager, subresource)]
    kept = paths.union(*(_read(e.get("fieldsV1") or {}) for e in others)) if others else paths
    for entry in mine:
        for path in _read(entry.get("fieldsV1") or {}):
            if not any(known[: len(path)] == path for known in kept):
                base = _without(base, path)
    merged = strategic_merge(base, configuration, node) if node else merge_patch(base, configuration)
    entry = {
        "manager": manager,
        "operation": "Apply",
        "apiVersion": configuration.get("apiVersion", ""),
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "fieldsType": "FieldsV1",
        "fieldsV1": _write(paths),
        **({"subresource": subresource} if subresource else {}),
    }
    same = next((e for e in mine if e.get("fieldsV1") == entry["fieldsV1"]), None)
    result: Object = {**merged, "metadata": {**merged["metadata"], "managedFields": [*others, same or entry]}}
    return result


def _is(entry: Mapping[str, Any], manager: str, subresource: str) -> bool:
    return (
        entry.get("manager") == manager
        and entry.get("operation") == "Apply"
        and entry.get("subresource", "") == subresource
    )


def _leaves(value: Object, prefix: Path = ()) -> list[Path]:
    """The paths of all fields that hold no object; lists count as one field."""
    found: list[Path] = []
    for name, child in value.items():
        path = (*prefix, name)
        if (not prefix and name in _IDENTITY) or path in (("metadata", "name"), ("metadata", "namespace")):
            continue
        if isinstance(child, dict) and child:
            found.extend(_leaves(child, path))
        else:
            found.append(path)
    return found


def _write(paths: set[Path]) -> Object:
    fields: Object = {}
    for path in sorted(paths):
        node = fields
        for name in path:
            node = node.setdefault(f"f:{name}", {})
    return fields


def _read(fields: Mapping[str, Any], prefix: Path = ()) -> set[Path]:
    found: set[Path] = set()
    for name, child in fields.items():
        path = (*prefix, name.removeprefix("f:"))
        found |= _read(child, path) if child else {path}
    return found


def _without(obj: Object, path: Path) -> Object:
    """A copy without the field at `path`, and without the objects that become empty by that."""
    name, *rest = path
    if name not in obj:
        return obj
    copy = dict(obj)
    if rest and isinstance(obj[name], dict):
        child = _without(obj[name], tuple(rest))
        if child:
            copy[name] = child
        else:
            del copy[name]
    elif not rest:
        del copy[name]
    return copy
