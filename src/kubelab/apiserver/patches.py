"""The three patches of the API: JSON patch, JSON merge patch, strategic merge patch.

Owns: their pure application. Comes in: the current object, the patch, and for strategic merge the schema node that
says which lists merge by which key. Goes out: a new object; nothing given is changed.
Source: RFC 6902, RFC 6901, RFC 7386; Kubernetes documentation "Update API Objects in Place Using kubectl patch".
"""

from collections.abc import Callable
from typing import Any, Protocol

from kubelab.apiserver.copies import clone
from kubelab.apiserver.errors import BadRequest, Cause, Invalid

_DIRECTIVE, _REPLACE, _DELETE, _RETAIN = "$patch", "replace", "delete", "$retainKeys"
_DELETE_LIST, _ORDER = "$deleteFromPrimitiveList/", "$setElementOrder/"


class SchemaNode(Protocol):
    """Where in the schema a value stands."""

    def child(self, name: str) -> "SchemaNode | None":
        """The node of a property; None when unknown."""

    @property
    def merge_key(self) -> str | None:
        """The key by which a list of objects merges."""

    @property
    def merges(self) -> bool:
        """Whether a list merges at all (x-kubernetes-patch-strategy: merge)."""

    def merged(self) -> "SchemaNode":
        """For a merging list: the node of one element."""


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902. Raises BadRequest for a malformed patch, Invalid when an operation does not fit the object."""
    if not isinstance(operations, list):
        raise BadRequest("a JSON patch is a list of operations")
    document = clone(target)
    for index, operation in enumerate(operations):
        if not isinstance(operation, dict) or "op" not in operation or not isinstance(operation.get("path"), str):
            raise BadRequest(f"JSON patch operation {index}: op and path are required")
        try:
            document = _operate(document, operation)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            message = f"JSON patch operation {index} ({operation['op']} {operation['path']}): {error}"
            raise Invalid(
                "the server rejected our request due to an error in our request",
                causes=[Cause("patch", "FieldValueInvalid", message)],
            ) from error
    return document


def _operate(document: Any, operation: dict[str, Any]) -> Any:
    path = _pointer(operation["path"])
    match operation["op"]:
        case "add":
            return _set(document, path, clone(operation["value"]), insert=True)
        case "replace":
            _get(document, path)
            return _set(document, path, clone(operation["value"]), insert=False)
        case "remove":
            return _remove(document, path)
        case "move":
            value = _get(document, _pointer(operation["from"]))
            return _set(_remove(document, _pointer(operation["from"])), path, value, insert=True)
        case "copy":
            value = clone(_get(document, _pointer(operation["from"])))
            return _set(document, path, value, insert=True)
        case "test":
            if _get(document, path) != operation["value"]:
                raise ValueError("the value is not the tested one")
            return document
        case other:
            raise ValueError(f"unknown operation {other!r}")


def _pointer(text: str) -> list[str]:
    if text == "":
        return []
    if not text.startswith("/"):
        raise ValueError(f"a path starts with '/': {text!r}")
    return [token.replace("~1", "/").replace("~0", "~") for token in text[1:].split("/")]


def _index(node: list[Any], token: str, *, insert: bool = False) -> int:
    if token == "-" and insert:
        return len(node)
    index = int(token)
    if not 0 <= index < len(node) + insert:
        raise IndexError(f"index {index} is outside of a list of {len(node)}")
    return index


def _get(document: Any, path: list[str]) -> Any:
    for token in path:
        if isinstance(document, list):
            document = document[_index(document, token)]
        elif isinstance(document, dict) and token in document:
            document = document[token]
        else:
            raise KeyError(f"missing path at {token!r}")
    return document


def _set(document: Any, path: list[str], value: Any, *, insert: bool) -> Any:
    if not path:
        return value
    parent, token = _get(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        index = _index(parent, token, insert=insert)
        if insert:
            parent.insert(index, value)
        else:
            parent[index] = value
    elif isinstance(parent, dict):
        parent[token] = value
    else:
        raise TypeError(f"{token!r}: the parent is neither object nor list")
    return document


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        return None
    parent, token = _get(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        del parent[_index(parent, token)]
    elif isinstance(parent, dict) and token in parent:
        del parent[token]
    else:
        raise KeyError(f"missing path at {token!r}")
    return document


def strategic_merge(target: Any, patch: Any, node: SchemaNode | None) -> Any:
    """Merge by schema: lists with a merge key merge by it, other lists are replaced, null removes.

    Directives: `$patch: replace|delete`, `$retainKeys`, `$deleteFromPrimitiveList/<field>`,
    `$setElementOrder/<field>`. Raises BadRequest for a list element without its merge key.
    """
    if not isinstance(patch, dict):
        raise BadRequest("a strategic merge patch is an object")
    return _merge_object(target if isinstance(target, dict) else {}, patch, node)


def _merge_object(target: dict[str, Any], patch: dict[str, Any], node: SchemaNode | None) -> dict[str, Any]:
    directive = patch.get(_DIRECTIVE)
    if directive == _REPLACE:
        return {k: _clean(v) for k, v in patch.items() if k != _DIRECTIVE}
    if directive == _DELETE:
        return {}
    merged = dict(target)
    if _RETAIN in patch:
        merged = {k: v for k, v in merged.items() if k in patch[_RETAIN]}
    for name, value in patch.items():
        if name.startswith(_DELETE_LIST):
            field = name.removeprefix(_DELETE_LIST)
            merged[field] = [v for v in merged.get(field) or () if v not in value]
    for name, value in patch.items():
        if name in (_DIRECTIVE, _RETAIN) or name.startswith((_DELETE_LIST, _ORDER)):
            continue
        child = node.child(name) if node else None
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            current = merged.get(name)
            merged[name] = _merge_object(current if isinstance(current, dict) else {}, value, child)
        elif isinstance(value, list) and child is not None and child.merges:
            merged[name] = _merge_list(merged.get(name) or [], value, child, name)
        else:
            merged[name] = _clean(value)
    for name, order in patch.items():
        if name.startswith(_ORDER):
            field = name.removeprefix(_ORDER)
            if isinstance(merged.get(field), list):
                merged[field] = _reorder(merged[field], order, node.child(field) if node else None)
    return merged


def _merge_list(target: list[Any], patch: list[Any], node: SchemaNode, field: str) -> list[Any]:
    key = node.merge_key
    if key is None or not all(isinstance(v, dict) for v in patch):
        return target + [v for v in patch if v not in target]
    if any(element == {_DIRECTIVE: _REPLACE} for element in patch):
        return [_clean(v) for v in patch if v != {_DIRECTIVE: _REPLACE}]
    merged = list(target)
    for element in patch:
        if key not in element:
            raise BadRequest(f"{field}: list element {element!r} lacks its merge key {key!r}")
        place = next((i for i, v in enumerate(merged) if v.get(key) == element[key]), None)
        if element.get(_DIRECTIVE) == _DELETE:
            merged = [v for v in merged if v.get(key) != element[key]]
        elif place is None:
            merged.append(_merge_object({}, element, node.merged()))
        else:
            merged[place] = _merge_object(merged[place], element, node.merged())
    return merged


def _reorder(values: list[Any], order: list[Any], node: SchemaNode | None) -> list[Any]:
    """Put what `order` names into that order; what it does not name keeps its place relative to its left neighbour."""
    key = node.merge_key if node else None
    identity: Callable[[Any], Any] = (lambda v: v.get(key) if isinstance(v, dict) else v) if key else (lambda v: v)
    wanted = [identity(v) for v in order]
    named = sorted((v for v in values if identity(v) in wanted), key=lambda v: wanted.index(identity(v)))
    result = list(named)
    for place, value in enumerate(values):
        if identity(value) not in wanted:
            left = next((v for v in reversed(values[:place]) if v in result), None)
            result.insert(result.index(left) + 1 if left is not None else 0, value)
    return result


def _clean(value: Any) -> Any:
    """Drop directives from what is taken over whole."""
    if isinstance(value, dict):
        return {
            k: _clean(v)
            for k, v in value.items()
            if v is not None and k not in (_DIRECTIVE, _RETAIN) and not k.startswith((_DELETE_LIST, _ORDER))
        }
    return [_clean(v) for v in value] if isinstance(value, list) else value
