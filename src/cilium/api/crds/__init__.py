"""The CustomResourceDefinitions: the project's own, group cilium.io, and others' that it serves.

In: the YAML files of this folder. Out: `load()`: definitions as an API server takes them, with shared schemas
(`fragments.yaml`) put in place of their `$ref`, which structural schemas may not contain.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml

GROUP = "cilium.io"
MARK, MARKED = "app.kubernetes.io/part-of", "cilium"
"""Label of our definitions of others' resources."""
FRAGMENTS = "fragments.yaml"
Schema = dict[str, Any]


def load() -> list[dict[str, Any]]:
    """Every definition, sorted by name. Fresh objects: callers may change them."""
    folder = files(__name__)
    fragments: dict[str, Schema] = yaml.safe_load(folder.joinpath(FRAGMENTS).read_text(encoding="utf-8"))
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml") and entry.name != FRAGMENTS)
    documents = (yaml.safe_load(folder.joinpath(name).read_text(encoding="utf-8")) for name in names)
    return [resolve(document, fragments) for document in documents]


def is_ours(present: Schema | None) -> bool:
    """Whether a definition of an API server may be written: there is none, or it is one of ours."""
    if present is None:
        return True
    return ((present.get("metadata") or {}).get("labels") or {}).get(MARK) == MARKED


def resolve(node: Any, fragments: dict[str, Schema]) -> Any:
    """`node` with every `$ref` replaced; properties beside a `$ref` are added. Raises KeyError for an unknown name."""
    if isinstance(node, list):
        return [resolve(child, fragments) for child in node]
    if not isinstance(node, dict):
        return node
    own = {name: resolve(child, fragments) for name, child in node.items() if name != "$ref"}
    if "$ref" not in node:
        return own
    base: Schema = resolve(fragments[node["$ref"]], fragments)
    if "properties" in own and "properties" in base:
        own["properties"] = {**base["properties"], **own["properties"]}
    return {**base, **own}
