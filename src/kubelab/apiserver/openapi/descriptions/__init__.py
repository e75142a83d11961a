"""What the built-in kinds and their fields mean, for `kubectl explain`.

Owns: the texts, one YAML file per group or topic. Comes in: a definition of `Schemas`. Goes out: the definition with
`description` and `enum` of its fields. Nothing is read before the first document is asked for.

    io.k8s.api.core.v1.Probe:
      description: …
      like: io.k8s.…          # fields that are not named here mean what they mean there
      properties:
        periodSeconds: …
        scheme:
          description: …
          enum: {HTTP: …, HTTPS: …}   # each value with what it means, or null
"""

from collections.abc import Mapping
from functools import cached_property
from importlib.resources import files
from typing import Any

import yaml

from kubelab.apiserver.schemas import Schema

Text = str | Mapping[str, Any]
TYPE_META = "TypeMeta"
"""The entry for `apiVersion`, `kind` and `metadata` of whatever is a kind, also of custom ones."""
_KINDS = "x-kubernetes-group-version-kind"


class Descriptions:
    def described(self, name: str, schema: Schema) -> Schema:
        """The schema with the texts of definition `name`. What has a description already keeps it."""
        properties = schema.get("properties") or {}
        texts = self.fields(name, common=_KINDS in schema)
        made = {field: _described(child, texts.get(field)) for field, child in properties.items()}
        beside = {"properties": made} if properties else {}
        return {**_described(schema, self._entries.get(name, {}).get("description")), **beside}

    def fields(self, name: str, *, common: bool = False) -> Mapping[str, Text]:
        """The texts of a definition's fields; `common`: with those that all kinds have."""
        entry = self._entries.get(name, {})
        below = self.fields(entry["like"]) if "like" in entry else {}
        shared = self._entries[TYPE_META]["properties"] if common else {}
        return {**shared, **below, **entry.get("properties", {})}

    @property
    def entries(self) -> Mapping[str, Mapping[str, Any]]:
        """By definition, as the files have them."""
        return self._entries

    @cached_property
    def _entries(self) -> dict[str, dict[str, Any]]:
        entries: dict[str, dict[str, Any]] = {}
        for file in sorted(files(__name__).iterdir(), key=lambda entry: entry.name):
            if file.name.endswith(".yaml"):
                # The C loader: a tenth of the time.
                entries.update(yaml.load(file.read_bytes(), yaml.CSafeLoader))
        return entries


def _described(schema: Schema, text: Text | None) -> Schema:
    if text is None or "description" in schema:
        return schema
    if isinstance(text, str):
        return {**schema, "description": text}
    if not isinstance(values := text.get("enum"), Mapping):
        return {**schema, "description": text["description"]}
    known = sorted(values)
    lines = [f' - `"{value}"`' + (f" {values[value]}" if values[value] else "") for value in known]
    description = "\n".join([text["description"], "", "Possible enum values:", *lines])
    if schema.get("type") == "array":
        return {**schema, "description": description, "items": {**schema["items"], "enum": known}}
    return {**schema, "description": description, "enum": known}
