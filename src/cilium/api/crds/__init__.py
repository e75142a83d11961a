"""The CustomResourceDefinitions: the project's own, group cilium.io, and others' that it serves.

In: the YAML files of this folder. Out: `load()`: definitions as an API server takes them. `$ref: NAME` anywhere in them
stands for the shared schema of that name (`fragments/`), because structural schemas may not contain references; what
stands beside it is added to it. Sources: the public field names of cilium.io/v2 policies.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import yaml

GROUP = "cilium.io"
MARK, MARKED = "app.kubernetes.io/part-of", "cilium"
"""Label of our definitions of others' resources."""
Schema = dict[str, Any]


def load() -> list[dict[str, Any]]:
    """Every definition, sorted by name. Fresh objects: callers may change them."""
    shared = fragments()
    return [resolve(document, shared) for document in documents()]


def documents() -> list[dict[str, Any]]:
    """The definitions as they are written, sorted by the name of their file."""
    return _read(files(__name__))


def fragments() -> dict[str, Schema]:
    """The shared schemas by name."""
    return {name: schema for file in _read(files(__name__).joinpath("fragments")) for name, schema in file.items()}


def _read(folder: Traversable) -> list[dict[str, Any]]:
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    entries = sorted(found, key=lambda entry: entry.name)
    return [yaml.safe_load(entry.read_text(encoding="utf-8")) for entry in entries]


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
