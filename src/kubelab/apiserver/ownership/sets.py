"""Sets of fields.

Owns: the algebra of field sets in the form in which `fieldsV1` writes them, so nothing is converted on the way to an
object. Comes in and goes out: nested dicts, never changed in place.

    {"f:spec": {"f:replicas": {}}}                      the field spec.replicas
    {"f:labels": {".": {}, "f:app": {}}}                labels itself and labels.app
    {"f:ports": {'k:{"port":80}': {...}}}               an element of a list by its keys; "v:1" by value

An element of a dict is a member if it holds nothing or holds ".". Source: Kubernetes API reference, FieldsV1.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

Set = dict[str, Any]
SELF = "."


def is_member(node: Set) -> bool:
    return not node or SELF in node


def children(node: Set) -> Set:
    return {k: v for k, v in node.items() if k != SELF} if SELF in node else node


def _put(target: Set, name: str, *, member: bool, below: Set) -> None:
    if below:
        target[name] = {SELF: {}, **below} if member else below
    elif member:
        target[name] = {}


def union(a: Set, b: Set) -> Set:
    if not a or not b:
        return a or b
    joined = dict(a)
    for name, node in b.items():
        mine = a.get(name)
        if mine is None:
            joined[name] = node
        elif mine is not node and name != SELF:
            member = is_member(mine) or is_member(node)
            _put(joined, name, member=member, below=union(children(mine), children(node)))
    return joined


def difference(a: Set, b: Set) -> Set:
    """The members of `a` that `b` does not have; what lies below a member of `b` stays."""
    if not b:
        return a
    left: Set = {}
    for name, node in a.items():
        other = b.get(name)
        if other is None:
            left[name] = node
        elif name != SELF:
            member = is_member(node) and not is_member(other)
            _put(left, name, member=member, below=difference(children(node), children(other)))
    return left


def intersection(a: Set, b: Set) -> Set:
    common: Set = {}
    for name in a.keys() & b.keys():
        if name != SELF:
            mine, other = a[name], b[name]
            member = is_member(mine) and is_member(other)
            _put(common, name, member=member, below=intersection(children(mine), children(other)))
    return common


def without(fields: Set, path: tuple[str, ...]) -> Set:
    """`fields` without the member at `path` (what lies below it stays)."""
    if path[0] not in fields:
        return fields
    node = fields[path[0]]
    rest = {k: v for k, v in fields.items() if k != path[0]}
    if len(path) == 1:
        _put(rest, path[0], member=False, below=children(node))
    else:
        _put(rest, path[0], member=is_member(node), below=without(children(node), path[1:]))
    return rest


def paths(fields: Set, prefix: str = "") -> Iterator[str]:
    """Each member as messages name it: `.spec.containers[name="web"].image`."""
    for name in sorted(fields):
        if name == SELF:
            continue
        node = fields[name]
        path = prefix + _shown(name)
        if is_member(node):
            yield path
        yield from paths(children(node), path)


def key_element(keys: dict[str, Any]) -> str:
    return "k:" + msgspec.json.encode(keys, order="sorted").decode()


def value_element(value: Any) -> str:
    return "v:" + msgspec.json.encode(value).decode()


def _shown(name: str) -> str:
    kind, text = name[:2], name[2:]
    match kind:
        case "f:":
            return f".{text}"
        case "k:":
            keys = msgspec.json.decode(text)
            return "[" + ",".join(f"{k}={msgspec.json.encode(v).decode()}" for k, v in sorted(keys.items())) + "]"
        case "v:":
            return f"[={text}]"
    return f"[{text}]"
