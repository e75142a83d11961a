"""The v2 document in protobuf, as Go clients ask for it.

Comes in: the document. Goes out: the message `openapi.v2.Document`. Source: the message types of gnostic's OpenAPI v2
model (field numbers as kubectl carries them); what Kubernetes clients do not read is left out.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

Object = Mapping[str, Any]
_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}
_LENGTH, _VARINT = 2, 0


def encode(document: Object) -> bytes:
    info = _text(1, document["info"]["title"]) + _text(2, document["info"]["version"])
    paths = b"".join(_named(2, path, _path(item)) for path, item in document["paths"].items())
    definitions = b"".join(_named(1, name, _schema(schema)) for name, schema in document["definitions"].items())
    return _text(1, document["swagger"]) + _bytes(2, info) + _bytes(8, paths) + _bytes(9, definitions)


def _path(item: Object) -> bytes:
    return b"".join(_bytes(_METHODS[method], _operation(found)) for method, found in item.items())


def _operation(operation: Object) -> bytes:
    made = _text(5, operation["operationId"])
    made += b"".join(_text(7, media) for media in operation.get("consumes", ()))
    made += b"".join(_bytes(8, _query(parameter)) for parameter in operation.get("parameters", ()))
    return made + _extensions(13, operation)


def _query(parameter: Object) -> bytes:
    """A ParametersItem that holds a Parameter, that holds a NonBodyParameter, that is one of the query."""
    found = _text(2, parameter["in"]) + _text(4, parameter["name"]) + _text(6, parameter["type"])
    return _bytes(1, _bytes(2, _bytes(3, found)))


def _schema(schema: Object) -> bytes:
    made = b"".join(_FIELDS[name](value) for name, value in schema.items() if name in _FIELDS)
    return made + _extensions(31, schema)


def _properties(properties: Object) -> bytes:
    return _bytes(25, b"".join(_named(1, name, _schema(schema)) for name, schema in properties.items()))


def _additional(value: Any) -> bytes:
    return _bytes(21, _bytes(1, _schema(value)) if isinstance(value, Mapping) else _number(2, int(bool(value))))


def _extensions(number: int, schema: Object) -> bytes:
    return b"".join(_named(number, name, _any(value)) for name, value in schema.items() if name.startswith("x-"))


def _any(value: Any) -> bytes:
    """Any value is a piece of YAML; JSON is."""
    return _text(2, msgspec.json.encode(value).decode() + "\n")


def _named(number: int, name: str, value: bytes) -> bytes:
    return _bytes(number, _text(1, name) + _bytes(2, value))


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(value)) + value


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _texts(number: int) -> Callable[[Iterable[str]], bytes]:
    return lambda values: b"".join(_text(number, value) for value in values)


def _one(number: int) -> Callable[[str], bytes]:
    return lambda value: _text(number, value)


_FIELDS: dict[str, Callable[[Any], bytes]] = {
    "$ref": _one(1),
    "format": _one(2),
    "title": _one(3),
    "description": _one(4),
    "default": lambda value: _bytes(5, _any(value)),
    "pattern": _one(13),
    "required": _texts(19),
    "enum": lambda values: b"".join(_bytes(20, _any(value)) for value in values),
    "additionalProperties": _additional,
    "type": lambda value: _bytes(22, _texts(1)([value] if isinstance(value, str) else value)),
    "items": lambda value: _bytes(23, _bytes(1, _schema(value))),
    "properties": _properties,
}
