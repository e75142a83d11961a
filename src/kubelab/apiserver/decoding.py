"""From a request body to a clean object.

Owns: reading JSON or YAML, and checking an object against the schema of its kind: unknown fields are reported and
dropped, wrong types are refused in the words of the real server. Comes in: bytes, a content type, a schema node. Goes
out: a dict, the list of unknown fields. Source: Kubernetes API concepts, "Field validation".
"""

import json
from typing import Any

import msgspec
import yaml

from kubelab import quantities
from kubelab.apiserver.errors import BadRequest, UnsupportedMediaType
from kubelab.apiserver.protobuf import MEDIA_TYPE, ProtobufDecoder
from kubelab.apiserver.schemas import Node

Object = dict[str, Any]
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}


Trace = tuple[Any, Node, str | int] | None
"""How a value was reached: what leads to what holds it, that, and its key or index there."""


class Decoder:
    """Request bodies of every encoding that is accepted."""

    def __init__(self) -> None:
        self._protobuf = ProtobufDecoder()

    def object(self, body: bytes, content_type: str) -> Object:
        """Raises BadRequest for what is no object, UnsupportedMediaType for an unknown encoding."""
        if content_type.partition(";")[0].strip() == MEDIA_TYPE:
            return self._protobuf.decode(body)
        value = decode(body, content_type)
        if not isinstance(value, dict):
            raise BadRequest("the object provided is unrecognized: want a JSON object with kind and apiVersion")
        return value


def decode(body: bytes, content_type: str) -> Any:
    """JSON or YAML. Raises BadRequest for what cannot be read, UnsupportedMediaType for other encodings."""
    media = content_type.partition(";")[0].strip().lower()
    if media.endswith("yaml"):
        return _yaml(body)[0]
    if media in ("", "*/*") or media.endswith("json"):
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequest(
                f"the object provided is unrecognized: the body is no valid {media or 'JSON'}: {error}"
            ) from error
    raise UnsupportedMediaType(
        f"the body of the request was in an unknown format - accepted media types include: "
        f"application/json, application/yaml, {MEDIA_TYPE}"
    )


def decode_apply(body: bytes) -> tuple[Any, list[str]]:
    """An apply configuration: YAML, of which JSON is a part that is read faster. And the fields that stand twice."""
    if body.lstrip().startswith(b"{"):
        try:
            return msgspec.json.decode(body), duplicates(body, "application/json")
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    return _yaml(body)


def duplicates(body: bytes, content_type: str) -> list[str]:
    """What is said of each field that stands more than once in one object."""
    if "yaml" in content_type:
        return _yaml(body)[1]
    # A field that is read twice is written once: without that there are as many colons in both.
    if body.count(b":") == msgspec.json.encode(msgspec.json.decode(body)).count(b":"):
        return []
    found: list[str] = []
    _walk(json.loads(body, object_pairs_hook=_Fields), "", found)
    return found


class _Fields(dict[str, Any]):
    """A JSON object that knows which of its fields stood twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs] if len(pairs) != len(self) else []
        self.twice = sorted({name for name in names if names.count(name) > 1})


def _walk(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, _Fields):
        found.extend(f'duplicate field "{path}{name}"' for name in value.twice)
        for name, child in value.items():
            _walk(child, f"{path}{name}" if isinstance(child, list) else f"{path}{name}.", found)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            _walk(child, f"{path}[{index}].", found)


class _Loader(yaml.CSafeLoader):
    """YAML as the API reads it: dates are strings. `twice` collects keys that stand twice."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self.twice: list[str] = []

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                self.twice.append(f'line {key.start_mark.line + 1}: key "{key.value}" already set in map')
            seen.add(key.value)
        made: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return made


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rows if tag != "tag:yaml.org,2002:timestamp"]
    for first, rows in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _yaml(body: bytes) -> tuple[Any, list[str]]:
    try:
        loader = _Loader(body)
        try:
            value = loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadRequest(f"error decoding YAML: {error}") from error
    return value, [f"yaml: unmarshal errors:\n  {line}" for line in loader.twice]


class Cleaner:
    """One pass over one object. `unknown` lists the paths of fields that the schema does not know."""

    def __init__(self, kind: str, version: str = "v1", *, check_types: bool = True) -> None:
        self.complaint = f'{kind} in version "{version}" cannot be handled as a {kind}: '
        self._check_types = check_types
        self._keep_empty = False
        self.unknown: list[str] = []

    def clean(self, value: Any, node: Node | None, *, keep_empty: bool = False) -> Any:
        """A copy without unknown fields and nulls. Raises BadRequest for a wrong type."""
        self._keep_empty = keep_empty
        return self._clean(value, node, None)

    def _clean(self, value: Any, node: Node | None, trace: Trace) -> Any:
        if node is None or not node.schema or isinstance(value, msgspec.Raw):
            return value
        if self._check_types and not node.structural:
            # Custom objects are judged by their schema as a whole, with a cause per fault.
            self._check_type(value, node, trace)
        if isinstance(value, dict):
            return self._clean_object(value, node, trace)
        if isinstance(value, list) and node.items is not None:
            items = node.items
            return [self._clean(child, items, (trace, node, index)) for index, child in enumerate(value)]
        if node.is_resource_amount and not isinstance(value, bool):
            return _amount(value)
        return value

    def _clean_object(self, value: Object, node: Node, trace: Trace) -> Object:
        cleaned: Object = {}
        for name, child in value.items():
            below = node.child(name)
            if below is None and node.closed and not (node.embedded and name in ("apiVersion", "kind", "metadata")):
                self.unknown.append(_path((trace, node, name)))
            elif child is not None:
                cleaned[name] = self._clean(child, below, (trace, node, name)) if below is not None else child
            elif below is None or below.schema.get("nullable"):
                cleaned[name] = None
        return cleaned

    def _check_type(self, value: Any, node: Node, trace: Trace) -> None:
        if node.int_or_string:
            good = isinstance(value, int | str | float) and not isinstance(value, bool)
            if good and node.schema.get("format") == "quantity" and (why := quantities.fault(value)):
                raise BadRequest(self.complaint + why)
        else:
            wanted = node.type
            if wanted not in _TYPES:
                return
            good = isinstance(value, _TYPES[wanted]) and (wanted == "boolean" or not isinstance(value, bool))
            if wanted == "integer" and isinstance(value, float):
                good = value.is_integer()
        if not good:
            struct, fields = _place(trace)
            what = f"Go struct field {struct}.{fields}" if fields else "Go value"
            raise BadRequest(
                f"{self.complaint}json: cannot unmarshal {_json_type(value)} into {what} of type {_go(node)}"
            )


def _steps(trace: Trace) -> list[tuple[Node, str | int]]:
    found: list[tuple[Node, str | int]] = []
    while trace is not None:
        trace, node, key = trace
        found.append((node, key))
    return found[::-1]


def _path(trace: Trace) -> str:
    """`spec.containers[0].image`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for _, key in _steps(trace)).lstrip(".")


def _place(trace: Trace) -> tuple[str, str]:
    """The innermost struct, and the path as Go tells it: without indices, and without the keys of maps."""
    struct, place, fields = "", "", ""
    for node, key in _steps(trace):
        struct = node.name.rpartition(".")[2] or place
        if not isinstance(key, int) and not (node.is_map and fields):
            place, fields = struct, f"{fields}.{key}".lstrip(".")
    return place, fields


def _amount(value: Any) -> Any:
    """In the canonical form, rounded up to thousandths, as the API keeps what is asked for, granted and there."""
    try:
        return quantities.canonical(value, finest=-3)
    except ValueError:
        return value


def _json_type(value: Any) -> str:
    if isinstance(value, float):
        return f"number {value}"
    names = ((bool, "bool"), (str, "string"), (int, "number"), (list, "array"))
    return next((name for kind, name in names if isinstance(value, kind)), "object")


def _go(node: Node) -> str:
    """The type of Go that a place in a schema is."""
    if node.int_or_string:
        return "intstr.IntOrString"
    match node.type:
        case "integer":
            return str(node.schema.get("format") or "int64")
        case "number":
            return "float64"
        case "boolean":
            return "bool"
        case "array":
            return "[]" + (_go(node.items) if node.items is not None else "interface {}")
        case "object" if node.name:
            package, _, kind = node.name.rpartition(".")
            return f"{package.rpartition('.')[2]}.{kind}"
        case "object":
            child = node.child("")
            return "map[string]" + (_go(child) if child is not None else "interface {}")
    return node.type or "interface {}"
