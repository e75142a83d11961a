"""Bodies in the protobuf of Kubernetes.

Owns: decoding of `application/vnd.kubernetes.protobuf`, which Go clients send for built-in kinds. Comes in: bytes. Goes
out: the dict that the same object is in JSON. Answers need no encoder: these clients accept JSON as well. Field numbers
come from `schemas/protobuf.json` (tools/read_protobuf_numbers.py).
Source: Kubernetes API concepts, "Protobuf encoding"; Protocol Buffers documentation, "Encoding".
"""

import base64
from collections.abc import Iterator
from importlib import resources
from typing import Any

import msgspec

from kubelab import timestamps
from kubelab.apiserver.errors import BadRequest, UnsupportedMediaType

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_META = "k8s.io/apimachinery/pkg/apis/meta/v1."
Object = dict[str, Any]
Fields = dict[str, list[str]]


class _Table(msgspec.Struct):
    kinds: dict[str, str]
    "`apps/v1 Deployment` -> name of its message."
    messages: dict[str, Fields]
    "Message -> field number -> JSON name, type, message of the field or its elements."


class ProtobufDecoder:
    def __init__(self) -> None:
        raw = resources.files("kubelab.apiserver.schemas").joinpath("protobuf.json").read_bytes()
        self._table = msgspec.json.decode(raw, type=_Table)

    def decode(self, body: bytes) -> Object:
        """Raises BadRequest for what is no such body, UnsupportedMediaType for a kind without known field numbers."""
        if not body.startswith(_MAGIC):
            raise BadRequest(
                "the object provided is unrecognized: the body does not start with the protobuf prefix k8s\\0"
            )
        try:
            envelope = dict(_fields(body[len(_MAGIC) :]))
            meta = {number: _text(value) for number, value in _fields(_bytes(envelope.get(1, b"")))}
            version, kind = meta.get(1, ""), meta.get(2, "")
            message = self._table.kinds.get(f"{version} {kind}")
            if message is None:
                raise UnsupportedMediaType(f"{version} {kind} is not accepted in protobuf: send application/json")
            decoded = self._message(_bytes(envelope.get(2, b"")), message)
        except (ValueError, IndexError, TypeError, msgspec.DecodeError) as error:
            raise BadRequest(f"the object provided is unrecognized: malformed protobuf: {error}") from error
        return {"kind": kind, "apiVersion": version, **decoded}

    def _message(self, raw: bytes, name: str) -> Any:
        special = _SPECIAL.get(name)
        if special is not None:
            return special(raw)
        fields = self._table.messages[name]
        decoded: Object = {}
        for number, value in _fields(raw):
            field = fields.get(str(number))
            if field is not None:
                self._set(decoded, value, field)
        return decoded

    def _set(self, decoded: Object, value: int | bytes, field: list[str]) -> None:
        name, kind, *rest = field
        message = rest[0] if rest else ""
        shape, _, element = kind.removeprefix("*").partition(":")
        if shape == "list":
            decoded.setdefault(name, []).append(self._value(value, element, message))
        elif shape == "map":
            entry = dict(_fields(_bytes(value)))
            mapped = self._value(entry.get(2, b""), element, message)
            decoded.setdefault(name, {})[_text(entry.get(1, b""))] = mapped
        else:
            found = self._value(value, shape, message)
            if name == "" and isinstance(found, dict):
                decoded.update(found)
            elif kind.startswith("*") or found not in (None, "", 0, False, {}):
                decoded[name] = found

    def _value(self, value: int | bytes, kind: str, message: str) -> Any:
        match kind:
            case "message":
                return self._message(_bytes(value), message)
            case "items":
                return [_text(v) for _, v in _fields(_bytes(value))]
            case "string":
                return _text(value)
            case "bytes":
                return base64.b64encode(_bytes(value)).decode()
            case "bool":
                return bool(value)
        return _signed(value)


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of a message: varints and fixed numbers as int, the rest as bytes. Raises ValueError,
    IndexError."""
    place = 0
    while place < len(raw):
        key, place = _varint(raw, place)
        match key & 7:
            case 0:
                value, place = _varint(raw, place)
                yield key >> 3, value
            case 2:
                length, place = _varint(raw, place)
                if place + length > len(raw):
                    raise ValueError(f"field {key >> 3} ends behind the message")
                yield key >> 3, raw[place : place + length]
                place += length
            case (1 | 5) as wire:
                size = 8 if wire == 1 else 4
                yield key >> 3, int.from_bytes(raw[place : place + size], "little")
                place += size
            case wire:
                raise ValueError(f"field {key >> 3} has the unknown wire type {wire}")


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while shift < 70:
        byte = raw[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError("a number is longer than 64 bits")


def _signed(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise TypeError("want a number, got bytes")
    return value - (1 << 64) if value >= 1 << 63 else value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError("want bytes, got a number")
    return value


def _text(value: int | bytes) -> str:
    return _bytes(value).decode()


def _time(raw: bytes) -> str | None:
    fields = dict(_fields(raw))
    if not fields.get(1):
        return None
    return timestamps.seconds(_signed(fields[1]))


def _micro_time(raw: bytes) -> str | None:
    whole = _time(raw)
    nanos = _signed(dict(_fields(raw)).get(2, 0))
    return f"{whole[:-1]}.{nanos // 1000:06d}Z" if whole else None


def _int_or_string(raw: bytes) -> int | str:
    fields = dict(_fields(raw))
    return _text(fields.get(3, b"")) if fields.get(1) == 1 else _signed(fields.get(2, 0))


def _quantity(raw: bytes) -> str:
    return _text(dict(_fields(raw)).get(1, b""))


def _embedded_json(raw: bytes) -> Any:
    content = _bytes(dict(_fields(raw)).get(1, b""))
    return msgspec.json.decode(content) if content else None


_SPECIAL = {
    f"{_META}Time": _time,
    f"{_META}MicroTime": _micro_time,
    f"{_META}FieldsV1": _embedded_json,
    "k8s.io/apimachinery/pkg/util/intstr.IntOrString": _int_or_string,
    "k8s.io/apimachinery/pkg/api/resource.Quantity": _quantity,
    "k8s.io/apimachinery/pkg/runtime.RawExtension": _embedded_json,
}
