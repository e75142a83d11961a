"""Objects as trees of fields.

Owns: the walks over objects that the schema guides. Which lists are maps (`x-kubernetes-list-type`, keys), which are
sets, and what is atomic comes from the schema; without one, objects are granular and lists atomic. Comes in: objects,
schema nodes. Goes out: field sets, comparisons, merged and reduced objects. Nothing given is changed.
"""

from dataclasses import dataclass, field
from typing import Any

from kubelab.apiserver.ownership.sets import SELF, Set, children, is_member, key_element, value_element
from kubelab.apiserver.schemas import Node

Object = dict[str, Any]
# Key fields with a default in the built-in kinds.
_KEY_DEFAULTS = {"protocol": "TCP"}
# Structs that the built-in kinds hold by value: they are always there, so nobody adds them.
_ALWAYS_THERE = frozenset(
    ("metadata", "spec", "status", "strategy", "updateStrategy", "template", "jobTemplate", "resources", "containers")
) | frozenset(("loadBalancer", "daemonEndpoints", "kubeletEndpoint", "nodeInfo", "podSelector"))


class UntypedError(ValueError):
    """The object does not fit its schema; the text says where, as structured merges say it."""


@dataclass(slots=True)
class Comparison:
    added: Set = field(default_factory=dict)
    modified: Set = field(default_factory=dict)
    removed: Set = field(default_factory=dict)


def _list_keys(node: Node | None) -> tuple[str, ...] | None:
    """Of a list that is a map its keys, () for a set, None for an atomic list."""
    if node is None:
        return None
    kind = node.extension("x-kubernetes-list-type")
    if kind == "map":
        return tuple(node.extension("x-kubernetes-list-map-keys") or ())
    if kind == "set":
        return ()
    if kind is None and node.merges:
        return (node.merge_key,) if node.merge_key else ()
    return None


def _atomic(node: Node | None) -> bool:
    if node is None:
        return False
    return "atomic" in (node.extension("x-kubernetes-map-type"), node.schema.get("x-kubernetes-map-type"))


def _element(value: Any, keys: tuple[str, ...], node: Node | None) -> str | None:
    """The path element of one list entry; None when it lacks a key."""
    if not keys:
        return None if isinstance(value, dict | list) else value_element(value)
    if not isinstance(value, dict):
        return None
    found = {}
    for key in keys:
        known = value.get(key)
        if known is None:
            schema = node.properties.get(key, {}) if node is not None else {}
            known = schema.get("default", _KEY_DEFAULTS.get(key) if not (node and node.structural) else None)
        if known is None:
            return None
        found[key] = known
    return key_element(found)


def _index(values: list[Any], node: Node | None) -> dict[str, Any] | None:
    """A list's entries by path element; None: an atomic list, or one whose entries cannot be told apart."""
    keys = _list_keys(node)
    if keys is None or node is None:
        return None
    found = {}
    for value in values:
        element = _element(value, keys, node.items)
        if element is None or element in found:
            return None
        found[element] = value
    return found


def _parts(value: Any, node: Node | None) -> dict[str, Any] | None:
    """The children of a granular value by path element, None for a leaf."""
    if isinstance(value, dict):
        return None if _atomic(node) else {f"f:{k}": v for k, v in value.items()}
    return _index(value, node) if isinstance(value, list) else None


def _below(element: str, node: Node | None) -> Node | None:
    if node is None:
        return None
    return node.child(element[2:]) if element[0] == "f" else node.items


# ---- to a set --------------------------------------------------------------------------------------------------------


def field_set(value: Any, node: Node | None, path: str = "") -> Set:
    """The fields that `value` speaks of. Raises UntypedError for entries of lists that cannot be told apart."""
    _check_list(value, node, path)
    fields: Set = {}
    for element, child in (_parts(value, node) or {}).items():
        below = field_set(child, _below(element, node), f"{path}.{element[2:]}" if element[0] == "f" else path)
        own = element[0] != "f" or not below or not _is_named(element, node)
        fields[element] = {SELF: {}, **below} if own and below else below
    return fields


def _check_list(value: Any, node: Node | None, path: str) -> None:
    keys = _list_keys(node) if isinstance(value, list) else None
    if keys is None or node is None:
        return
    seen = set()
    for index, entry in enumerate(value):
        element = _element(entry, keys, node.items)
        if element is None:
            missing = next((k for k in keys if not isinstance(entry, dict) or entry.get(k) is None), "")
            raise UntypedError(
                f"{path}: element {index}: associative list with keys has an element that omits key field "
                f'"{missing}" (and doesn\'t have default value)'
            )
        if element in seen:
            raise UntypedError(f"{path}: duplicate entries for key [{_duplicate(element)}]")
        seen.add(element)


def _duplicate(element: str) -> str:
    return element[3:-1].replace('":', '"=').replace('"', "", 2) if element[0] == "k" else f"={element[2:]}"


# ---- compare ---------------------------------------------------------------------------------------------------------


def compare(old: Any, new: Any, node: Node | None, *, builtin: bool) -> Comparison:
    """What lies between two objects. Entries of keyed lists are told apart by their keys, not by their places."""
    found = Comparison()
    _compare(old, new, node, found, builtin=builtin)
    return found


def _compare(old: Object, new: Object, node: Node | None, found: Comparison, *, builtin: bool) -> None:
    before, after = _parts(old, node) or {}, _parts(new, node) or {}
    for element, value in after.items():
        was = before.get(element, _ABSENT)
        if was is value:
            continue
        below = _below(element, node)
        if was is _ABSENT:
            found.added[element] = _whole(value, below, element, builtin=builtin)
        elif was != value:
            _descend(element, was, value, below, found, builtin=builtin)
    for element, value in before.items():
        if element not in after:
            found.removed[element] = _whole(value, _below(element, node), element, builtin=builtin)


def _descend(element: str, was: Any, value: Any, node: Node | None, found: Comparison, *, builtin: bool) -> None:
    granular = bool(was or value) and type(was) is type(value)
    if not granular or _parts(was, node) is None or _parts(value, node) is None:
        found.modified[element] = {}
        return
    inner = Comparison()
    _compare(was, value, node, inner, builtin=builtin)
    for target, part in (
        (found.added, inner.added),
        (found.modified, inner.modified),
        (found.removed, inner.removed),
    ):
        if part:
            target[element] = part


def _whole(value: Any, node: Node | None, element: str, *, builtin: bool) -> Set:
    """A value that one side has and the other lacks: itself and everything below."""
    if not isinstance(value, dict | list):
        return _LEAF
    parts = _parts(value, node) or {}
    fields = {
        e: _whole(v, _below(e, node), e, builtin=builtin) if isinstance(v, dict | list) else _LEAF
        for e, v in parts.items()
    }
    if fields and not (builtin and element[2:] in _ALWAYS_THERE):
        fields[SELF] = {}
    return fields


_ABSENT = object()
_LEAF: Set = {}


# ---- merge and prune -------------------------------------------------------------------------------------------------


def merge(live: Any, wanted: Any, node: Node | None) -> Any:
    """`live` with everything that `wanted` says."""
    if isinstance(live, dict) and isinstance(wanted, dict) and not _atomic(node):
        merged = dict(live)
        for name, value in wanted.items():
            below = node.child(name) if node is not None else None
            merged[name] = merge(live[name], value, below) if name in live else value
        return merged
    if isinstance(live, list) and isinstance(wanted, list):
        return _merge_list(live, wanted, node)
    return wanted


def _merge_list(live: list[Any], wanted: list[Any], node: Node | None) -> list[Any]:
    """Entries of `wanted` in its order; those that only `live` has keep their place behind their left neighbour."""
    mine, theirs = _index(live, node), _index(wanted, node)
    if mine is None or theirs is None or node is None:
        return wanted
    order = list(theirs)
    left = ""
    for element in mine:
        if element not in theirs:
            order.insert(order.index(left) + 1 if left else 0, element)
        left = element
    return [
        merge(mine[e], theirs[e], node.items) if e in mine and e in theirs else theirs[e] if e in theirs else mine[e]
        for e in order
    ]


def prune(value: Any, last: Set, owned: Set, node: Node | None) -> Any:
    """`value` without what `last` has and `owned` has not. An entry of a list or map goes with everything below it, a
    declared field when nobody owns anything below it."""
    parts = _parts(value, node)
    if parts is None or not last:
        return value
    kept: dict[str, Any] = {}
    for element, child in parts.items():
        spoken, claimed = last.get(element), owned.get(element)
        if spoken is None:
            kept[element] = child
            continue
        named = _is_named(element, node)
        if (named or is_member(spoken)) and (claimed is None or not (named or is_member(claimed))):
            continue
        kept[element] = prune(child, children(spoken), children(claimed or {}), _below(element, node))
    if isinstance(value, dict):
        return {e[2:]: v for e, v in kept.items()}
    return list(kept.values())


def _is_named(element: str, node: Node | None) -> bool:
    """A field that the schema declares, as against an entry of a map or list."""
    return element[0] == "f" and node is not None and not node.is_map and element[2:] in node.properties
