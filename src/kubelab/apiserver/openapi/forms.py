"""A definition as OpenAPI 2.0 and 3.0 write it.

Comes in: a definition with references in the form of v2, as `Schemas` holds it. Goes out: the same for a document.
Source: OpenAPI 2.0, 3.0; the API server's own documents, for what scalars and CRDs look like in each.
"""

from typing import Any

from kubelab.apiserver.schemas import INT_OR_STRING, QUANTITY, Schema

V2, V3 = "#/definitions/", "#/components/schemas/"
_ONLY_V3 = ("nullable", "anyOf", "oneOf", "allOf", "not")
# Scalars of two types: v2 has no words for them, v3 has.
_SCALARS_V2: dict[str, Schema] = {
    INT_OR_STRING: {"type": "string", "format": "int-or-string"},
    QUANTITY: {"type": "string"},
}
_SCALARS_V3: dict[str, Schema] = {
    INT_OR_STRING: {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
    QUANTITY: {"oneOf": [{"type": "string"}, {"type": "number"}]},
}


def v2(name: str, schema: Schema) -> Any:
    if name in _SCALARS_V2:
        return _scalar(_SCALARS_V2[name], schema)
    return _plain(schema)


def v3(name: str, schema: Schema, references: list[str]) -> Any:
    """The names of what it refers to are added to `references`."""
    if name in _SCALARS_V3:
        return _scalar(_SCALARS_V3[name], schema)
    return _referring(schema, references)


def _scalar(form: Schema, schema: Schema) -> Schema:
    return {**form, "description": schema["description"]} if "description" in schema else form


def _plain(schema: Any) -> Any:
    """Without what v2 does not know. Of what may be null or hold unknown fields, kubectl then expects nothing."""
    if isinstance(schema, list):
        return [_plain(v) for v in schema]
    if not isinstance(schema, dict):
        return schema
    dropped: set[str] = {k for k in _ONLY_V3 if isinstance(schema.get(k), list | dict | bool)}
    if schema.get("nullable") is True:
        dropped |= {"type", "items", "properties"}
    if schema.get("x-kubernetes-preserve-unknown-fields") is True:
        dropped |= {"items", "properties"}
    kept = {k: _plain(v) for k, v in schema.items() if k not in dropped and k != "properties"}
    if "properties" in schema and "properties" not in dropped:
        # Their names are the users': a field may be called `not`.
        kept["properties"] = {name: _plain(v) for name, v in schema["properties"].items()}
    return kept


def _referring(schema: Any, references: list[str]) -> Any:
    """With references as v3 writes them; what stands beside a reference moves it into allOf."""
    if isinstance(schema, list):
        return [_referring(v, references) for v in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return {k: _referring(v, references) for k, v in schema.items()}
    name = reference.removeprefix(V2)
    references.append(name)
    pointer = {"$ref": V3 + name}
    beside = {k: v for k, v in schema.items() if k != "$ref"}
    return {"allOf": [pointer], **beside} if beside else pointer
