"""From a request body to a clean object.

Owns: reading JSON or YAML, and checking an object against the schema of its kind: unknown fields are reported and
dropped,
wrong types are refused. Comes in: bytes, a content type, a schema node. Goes out: a dict, the list of unknown fields.
Source: Kubernetes API concepts, "Field validation".
"""

from typing import Any

import msgspec
import yaml

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
    try:
        if media.endswith("yaml"):
            return yaml.safe_load(body)
        if media in ("", "*/*") or media.endswith("json"):
            return msgspec.json.decode(body)
    except (msgspec.DecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadRequest(
            f"the object provided is unrecognized: the body is no valid {media or 'JSON'}: {error}"
        ) from error
    raise UnsupportedMediaType(
        f"the body of the request was in an unknown format - accepted media types include: "
        f"application/json, application/yaml; got {media!r}"
    )


class Cleaner:
    """One pass over one object. `unknown` lists the paths of fields that the schema does not know."""

    def __init__(self, kind: str, *, check_types: bool = True) -> None:
        self._kind = kind
        self._check_types = check_types
        self.unknown: list[str] = []

    def clean(self, value: Any, node: Node | None, path: str = "") -> Any:
        """A copy without unknown fields and nulls. Raises BadRequest for a wrong type."""
        if node is None or not node.schema:
            return value
        if self._check_types and not node.structural:
            # Custom objects are judged by their schema as a whole, with a cause per fault.
            self._check_type(value, node, path)
        if isinstance(value, dict):
            return self._clean_object(value, node, path)
        if isinstance(value, list) and node.items is not None:
            items = node.items
            return [self.clean(v, items, f"{path}[{i}]") for i, v in enumerate(value)]
        return value

    def _clean_object(self, value: Object, node: Node, path: str) -> Object:
        cleaned: Object = {}
        embedded = bool(node.schema.get("x-kubernetes-embedded-resource"))
        for name, child in value.items():
            below = node.child(name)
            where = f"{path}.{name}" if path else name
            if below is None and node.closed and not (embedded and name in ("apiVersion", "kind", "metadata")):
                self.unknown.append(where)
            elif child is not None or below is None or below.schema.get("nullable"):
                cleaned[name] = self.clean(child, below, where) if child is not None else None
        return cleaned

    def _check_type(self, value: Any, node: Node, path: str) -> None:
        if node.int_or_string:
            good = isinstance(value, int | str | float) and not isinstance(value, bool)
            wanted = "an integer or a string"
        else:
            wanted = node.type
            if wanted not in _TYPES:
                return
            good = isinstance(value, _TYPES[wanted]) and (wanted == "boolean" or not isinstance(value, bool))
            if wanted == "integer" and isinstance(value, float):
                good = value.is_integer()
        if not good:
            shown = msgspec.json.encode(value).decode()
            raise BadRequest(
                f"{self._kind} cannot be handled: strict decoding error: {path or 'the object'}: "
                f"want {wanted}, got {shown[:80]}"
            )
