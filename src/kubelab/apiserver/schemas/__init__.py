"""The shape of every kind.

Owns: `Node`, a place in a schema, and `Schemas`, the OpenAPI definitions of the built-in kinds (`builtins.json`,
made by
tools/prune_openapi.py) plus those that CRDs bring. Comes in: group, version and kind. Goes out: nodes for decoding,
defaulting, validation and strategic merge; definitions for the OpenAPI documents.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from typing import Any

import msgspec

Schema = Mapping[str, Any]
_REF = "#/definitions/"
_PREFIX = "io.k8s.apimachinery.pkg."
OBJECT_META = f"{_PREFIX}apis.meta.v1.ObjectMeta"
LIST_META = f"{_PREFIX}apis.meta.v1.ListMeta"
INT_OR_STRING = f"{_PREFIX}util.intstr.IntOrString"
QUANTITY = f"{_PREFIX}api.resource.Quantity"
# The publisher leaves the scalars with a notation of their own untyped.
_SCALARS: dict[str, Schema] = {
    INT_OR_STRING: {"type": "string", "format": "int-or-string", "x-kubernetes-int-or-string": True},
    QUANTITY: {"type": "string", "format": "quantity", "x-kubernetes-int-or-string": True},
}


@dataclass(frozen=True)
class Node:
    """A schema with the definitions that its references point to. `extra` stands beside a `$ref`.

    `structural`: of a CRD, where an object knows only what is declared, even if nothing is.
    """

    schema: Schema
    definitions: Mapping[str, Schema] = field(repr=False)
    extra: Schema = field(default_factory=dict)
    structural: bool = False
    name: str = ""
    "Of the definition that this is, if it has one."
    entry: bool = False
    "Of a map."
    _known: dict[str, "Node | None"] = field(default_factory=dict, repr=False, compare=False)
    "Places below that were asked for before."

    def child(self, name: str) -> "Node | None":
        """The node of property `name`, or of any property of a map; None when there is none."""
        declared = self.properties
        # All entries of a map are one place.
        place = name if name in declared else "*"
        if place not in self._known:
            found = declared[name] if name in declared else self.schema.get("additionalProperties")
            self._known[place] = self._resolve(found, entry=place == "*") if isinstance(found, Mapping) else None
        return self._known[place]

    @property
    def items(self) -> "Node | None":
        if "[]" not in self._known:
            found = self.schema.get("items")
            self._known["[]"] = self._resolve(found) if isinstance(found, Mapping) else None
        return self._known["[]"]

    @cached_property
    def properties(self) -> Mapping[str, Schema]:
        found: Mapping[str, Schema] = self.schema.get("properties") or {}
        return found

    @cached_property
    def required(self) -> tuple[str, ...]:
        return tuple(self.schema.get("required", ()))

    @cached_property
    def is_map(self) -> bool:
        """Its fields are entries, whose names no schema declares."""
        return not self.properties

    @cached_property
    def closed(self) -> bool:
        """Only declared properties are known here; others are pruned."""
        return (
            (bool(self.properties) or (self.structural and self.type == "object"))
            and "additionalProperties" not in self.schema
            and not self.schema.get("x-kubernetes-preserve-unknown-fields")
        )

    @cached_property
    def type(self) -> str:
        return str(self.schema.get("type", ""))

    @cached_property
    def int_or_string(self) -> bool:
        return bool(self.schema.get("x-kubernetes-int-or-string"))

    @cached_property
    def embedded(self) -> bool:
        """A whole object inside of another."""
        return bool(self.schema.get("x-kubernetes-embedded-resource"))

    @cached_property
    def is_resource_amount(self) -> bool:
        """A quantity that is an entry of a map by resources."""
        return self.entry and self.schema.get("format") == "quantity"

    @cached_property
    def merge_key(self) -> str | None:
        key: str | None = self.extension("x-kubernetes-patch-merge-key")
        return key

    @cached_property
    def merges(self) -> bool:
        return "merge" in (self.extension("x-kubernetes-patch-strategy") or "").split(",")

    def merged(self) -> "Node":
        """For elements of a merging list: the node of one element."""
        return self.items or self

    def beside(self, schema: Schema) -> "Node":
        """Another schema of the same place (a branch of allOf, anyOf, oneOf, not)."""
        return self._resolve(schema)

    def extension(self, name: str) -> Any:
        """An `x-kubernetes-…` mark of this place: what stands beside a reference goes before what it points to."""
        return self.extra.get(name, self.schema.get(name))

    def _resolve(self, schema: Schema, *, entry: bool = False) -> "Node":
        reference = schema.get("$ref")
        if isinstance(reference, str):
            name = reference.removeprefix(_REF)
            return Node(self.definitions.get(name, {}), self.definitions, schema, name=name, entry=entry)
        return Node(schema, self.definitions, structural=self.structural, entry=entry)


class Schemas:
    def __init__(self) -> None:
        raw = resources.files("kubelab.apiserver.schemas").joinpath("builtins.json").read_bytes()
        self._definitions: dict[str, Schema] = {**msgspec.json.decode(raw), **_SCALARS}
        self._names: dict[tuple[str, str, str], str] = {}
        self._custom: set[str] = set()
        self._nodes: dict[str, Node] = {}
        self._name(self._definitions)

    def define(self, definitions: Mapping[str, Schema]) -> None:
        """Learn kinds that are neither built in nor of a CRD."""
        self._definitions.update(definitions)
        self._name(definitions)

    def _name(self, definitions: Mapping[str, Schema]) -> None:
        for name, schema in definitions.items():
            for gvk in schema.get("x-kubernetes-group-version-kind", ()):
                self._names.setdefault((gvk["group"], gvk["version"], gvk["kind"]), name)

    def node(self, group: str, version: str, kind: str) -> Node | None:
        name = self._names.get((group, version, kind))
        if not name:
            return None
        node = self._nodes.get(name)
        if node is None:
            node = Node(self._definitions[name], self._definitions, structural=name in self._custom, name=name)
            self._nodes[name] = node
        return node

    def definition(self, name: str) -> Node:
        return Node(self._definitions[name], self._definitions)

    def set_custom(self, group: str, version: str, kind: str, schema: Schema) -> None:
        """Learn a CRD's kind. The metadata of its objects is ObjectMeta whatever its schema says."""
        properties = {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            **schema.get("properties", {}),
            "metadata": {"$ref": _REF + OBJECT_META},
        }
        name = custom_name(group, version, kind)
        gvk = {"group": group, "version": version, "kind": kind}
        self._definitions[name] = {
            **schema,
            "type": "object",
            "properties": properties,
            "x-kubernetes-group-version-kind": [gvk],
        }
        self._names[group, version, kind] = name
        self._nodes.pop(name, None)
        self._custom.add(name)

    def drop_custom(self, group: str, version: str, kind: str) -> None:
        name = self._names.pop((group, version, kind), None)
        if name:
            del self._definitions[name]
            self._nodes.pop(name, None)
            self._custom.discard(name)

    def items(self) -> Iterator[tuple[str, Schema]]:
        yield from self._definitions.items()


def custom_name(group: str, version: str, kind: str) -> str:
    """`io.cilium.v2.CiliumNode` for cilium.io/v2: the name of a CRD's definition."""
    return ".".join([*reversed(group.split(".")), version, kind])
