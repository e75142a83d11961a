"""Structural schemas of CRDs: defaulting and validation.

Owns: what an OpenAPI v3 schema of a CRD does to an object. Comes in: an object and a schema node. Goes out: the object
with defaults, or one cause per fault with the path of the field. Rules (`x-kubernetes-validations`) are `cel.rules`.
Source: Kubernetes documentation "Extend the Kubernetes API with CustomResourceDefinitions".
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from kubelab import timestamps
from kubelab.apiserver.copies import clone
from kubelab.apiserver.errors import Cause
from kubelab.apiserver.schemas import Node
from kubelab.apiserver.users import warn

_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "boolean": lambda v: isinstance(v, bool),
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
}
_FORMATS: dict[str, Callable[[str], Any]] = {
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "cidr": lambda text: ipaddress.ip_interface(text) if "/" in text else _fail("no prefix length"),
    "date-time": timestamps.parse,
}


def apply_defaults(value: Any, node: Node) -> None:
    """Fill in `default`s below `value`, in place."""
    if isinstance(value, dict):
        for name, schema in node.properties.items():
            if "default" in schema and (name not in value or (value[name] is None and not schema.get("nullable"))):
                value[name] = clone(schema["default"])
        for name, child in value.items():
            below = node.child(name)
            if below is not None:
                apply_defaults(child, below)
    elif isinstance(value, list) and node.items is not None:
        for child in value:
            apply_defaults(child, node.items)


def validate(value: Any, node: Node, path: str = "") -> Iterator[Cause]:
    """Every fault of `value`."""
    schema = node.schema
    if value is None:
        if not schema.get("nullable") and schema.get("type"):
            yield _wrong(path, value, f'must be of type {schema["type"]}: "null"')
        return
    if node.int_or_string:
        if not (isinstance(value, str) or _TYPES["integer"](value)):
            yield _wrong(path, value, "must be of type integer or string")
            return
    elif (kind := schema.get("type")) in _TYPES and not _TYPES[kind](value):
        shown = _type_name(value)
        yield Cause(
            path,
            "FieldValueTypeInvalid",
            f'Invalid value: "{shown}": {path} in body must be of type {kind}: "{shown}"',
        )
        return
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(_show(v) for v in schema["enum"])
        yield Cause(path, "FieldValueNotSupported", f"Unsupported value: {_show(value)}: supported values: {supported}")
    match value:
        case str():
            yield from _string(value, schema, path)
        case bool():
            pass
        case int() | float():
            yield from _number(value, schema, path)
        case list():
            yield from _array(value, node, path)
        case dict():
            yield from _object(value, node, path)
    yield from _junctors(value, node, path)


def changed_only(causes: Iterable[Cause], obj: Any, old: Any) -> Iterator[Cause]:
    """Ratcheting: what was wrong before and did not change is let be, with a warning. A list changes as a whole."""
    for cause in causes:
        place = cause.field.partition("[")[0]
        if cause.reason == "FieldValueRequired":
            place = place.rpartition(".")[0]  # It is the object around that is not as it should be.
        if old is not None and place and _at(obj, place) == _at(old, place):
            warn(str(cause))
        else:
            yield cause


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _string(value: str, schema: Any, path: str) -> Iterator[Cause]:
    if len(value) < schema.get("minLength", 0):
        yield _wrong(path, value, f"should be at least {schema['minLength']} chars long")
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        yield Cause(path, "FieldValueTooLong", f"Too long: may not be more than {schema['maxLength']} bytes")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield _wrong(path, value, f"should match '{schema['pattern']}'")
    check = _FORMATS.get(schema.get("format", ""))
    if check is not None:
        try:
            check(value)
        except ValueError:
            yield _wrong(path, value, f"must be of type {schema['format']}: {_show(value)}")


def _number(value: float, schema: Any, path: str) -> Iterator[Cause]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and (value < low or (schema.get("exclusiveMinimum") and value == low)):
        equal = "" if schema.get("exclusiveMinimum") else " or equal to"
        yield _wrong(path, value, f"should be greater than{equal} {low}")
    if high is not None and (value > high or (schema.get("exclusiveMaximum") and value == high)):
        equal = "" if schema.get("exclusiveMaximum") else " or equal to"
        yield _wrong(path, value, f"should be less than{equal} {high}")
    if schema.get("multipleOf") and value % schema["multipleOf"]:
        yield _wrong(path, value, f"should be a multiple of {schema['multipleOf']}")


def _array(value: list[Any], node: Node, path: str) -> Iterator[Cause]:
    schema = node.schema
    if len(value) < schema.get("minItems", 0):
        yield _wrong(path, len(value), f"should have at least {schema['minItems']} items")
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        message = f"Too many: {len(value)}: must have at most {schema['maxItems']} items"
        yield Cause(path, "FieldValueTooMany", message)
    if node.items is not None:
        for index, child in enumerate(value):
            yield from validate(child, node.items, f"{path}[{index}]")
    keys = schema.get("x-kubernetes-list-map-keys", ())
    unique = schema.get("uniqueItems") or schema.get("x-kubernetes-list-type") in ("set", "map")
    seen: list[Any] = []
    for index, child in enumerate(value if unique else ()):
        identity = {k: child.get(k) for k in keys} if keys and isinstance(child, dict) else child
        if identity in seen:
            yield Cause(f"{path}[{index}]", "FieldValueDuplicate", f"Duplicate value: {_show(identity)}")
        seen.append(identity)


def _object(value: dict[str, Any], node: Node, path: str) -> Iterator[Cause]:
    schema = node.schema
    for name in schema.get("required", ()):
        if name not in value:
            yield Cause(_join(path, name), "FieldValueRequired", "Required value")
    if len(value) < schema.get("minProperties", 0):
        yield _wrong(path, len(value), f"should have at least {schema['minProperties']} properties")
    if "maxProperties" in schema and len(value) > schema["maxProperties"]:
        message = f"Too many: {len(value)}: must have at most {schema['maxProperties']} items"
        yield Cause(path, "FieldValueTooMany", message)
    for name, child in value.items():
        if not path and name in ("apiVersion", "kind", "metadata"):
            continue  # Checked for every object alike.
        below = node.child(name)
        if below is not None:
            yield from validate(child, below, _join(path, name))


_FITS: tuple[tuple[str, Callable[[int], bool]], ...] = (("anyOf", lambda n: n >= 1), ("oneOf", lambda n: n == 1))


def _junctors(value: Any, node: Node, path: str) -> Iterator[Cause]:
    """allOf, anyOf, oneOf, not: in structural schemas they restrict values only."""
    schema = node.schema
    for part in schema.get("allOf", ()):
        yield from validate(value, node.beside(part), path)
    for name, fits in _FITS:
        parts = schema.get(name)
        if not parts or (node.int_or_string and name == "anyOf"):
            continue
        faults = [list(validate(value, node.beside(part), path)) for part in parts]
        valid = sum(not found for found in faults)
        if not fits(valid):
            rule = "at least one" if name == "anyOf" else "one and only one"
            word = "in body must validate" if path else "must validate"
            yield Cause(path, "FieldValueInvalid", f'"{path}" {word} {rule} schema ({name})')
            if valid == 0:
                yield from min(faults, key=len)
    if "not" in schema and not any(validate(value, node.beside(schema["not"]), path)):
        yield Cause(path, "FieldValueInvalid", f'"{path}" must not validate the schema (not)')


def _wrong(path: str, value: Any, what: str) -> Cause:
    return Cause(path, "FieldValueInvalid", f"Invalid value: {_show(value)}: {path} in body {what}")


def _show(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _type_name(value: Any) -> str:
    return next((name for name, check in _TYPES.items() if check(value)), "null")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _fail(why: str) -> None:
    raise ValueError(why)
