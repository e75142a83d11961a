"""JSON as CEL sees it by its schema.

Comes in: a value and its place in a structural schema. Goes out: the same value with times, durations and bytes as
such, numbers as doubles, and the names of fields escaped as expressions write them. Only declared fields are there.
Source: Kubernetes documentation "CustomResourceDefinitions", "Validation rules".
"""

import base64
import binascii
import re
from datetime import datetime
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from kubelab.apiserver.schemas import Node

_RESERVED = frozenset(
    (
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    )
)
_IDENTIFIER = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_.\-/$]*$")
_TURN = re.compile(r"([0-9]*\.?[0-9]+)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def escaped(name: str) -> str | None:
    """A field's name in expressions; None for one that no expression can write."""
    if name in _RESERVED:
        return f"__{name}__"
    if not _IDENTIFIER.match(name):
        return None
    name = name.replace("__", "__underscores__")
    return name.replace(".", "__dot__").replace("-", "__dash__").replace("/", "__slash__")


def to_cel(value: Any, node: Node | None, *, root: bool = False) -> Any:
    """`root`: a whole object, of whose metadata only the names are seen."""
    if node is None or value is None:
        return value
    match value:
        case dict():
            return _object(value, node, root=root or bool(node.schema.get("x-kubernetes-embedded-resource")))
        case list():
            return [to_cel(child, node.items) for child in value]
        case str():
            return _text(value, node)
        case int() if node.type == "number" and not isinstance(value, bool):
            return float(value)
        case float() if node.type == "integer":
            return int(value)
    return value


def _object(value: dict[str, Any], node: Node, *, root: bool) -> Any:
    if node.is_map and not root:
        return {name: to_cel(child, node.child(name)) for name, child in value.items()}
    seen: dict[str, Any] = {}
    for name, child in value.items():
        place = escaped(name)
        if place is None or (name not in node.properties and not root):
            continue
        if root and name == "metadata":
            seen[name] = {k: child[k] for k in ("name", "generateName") if k in child}
        elif root and name in ("apiVersion", "kind"):
            seen[name] = child
        elif name in node.properties:
            seen[place] = to_cel(child, node.child(name))
    return seen


def _text(value: str, node: Node) -> Any:
    """What is malformed stays as it is: the schema says so itself."""
    if node.int_or_string:
        return value
    try:
        match node.schema.get("format"):
            case "date-time" | "date":
                return _timestamp(value)
            case "duration":
                return _duration(value)
            case "byte":
                return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        pass
    return value


def _timestamp(text: str) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(datetime.fromisoformat(text.replace("Z", "+00:00")))
    return made


def _duration(text: str) -> Duration:
    """As Go writes it: 1h30m."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    turns = _TURN.findall(rest)
    if rest != "0" and "".join(number + unit for number, unit in turns) != rest:
        raise ValueError(f"{text!r} is no duration")
    made = Duration()
    made.FromNanoseconds(sign * round(sum(float(number) * _NANOSECONDS[unit] for number, unit in turns)))
    return made
