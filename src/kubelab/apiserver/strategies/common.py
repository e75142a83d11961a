"""Rules that all kinds share: names, labels, required fields, immutability.

Owns: the checks of metadata and the required fields of the built-in schemas. Comes in: an object. Goes out: causes.
Source: RFC 1123, RFC 1035; Kubernetes documentation "Object Names and IDs", "Labels and Selectors".
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from kubelab.apiserver.errors import Cause
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.schemas import Node
from kubelab.apiserver.strategies import names
from kubelab.apiserver.strategies.base import Object, Strategy

_PATH_NAMES = ("rbac.authorization.k8s.io",)
_MAX_ANNOTATIONS = 256 * 1024


def required(field: str, why: str = "") -> Cause:
    return Cause(field, "FieldValueRequired", f"Required value: {why}" if why else "Required value")


def invalid_value(field: str, value: Any, why: str) -> Cause:
    return Cause(field, "FieldValueInvalid", f"Invalid value: {msgspec.json.encode(value).decode()}: {why}")


def unsupported(field: str, value: Any, supported: tuple[str, ...]) -> Cause:
    listed = ", ".join(f'"{s}"' for s in supported)
    shown = msgspec.json.encode(value).decode()
    return Cause(field, "FieldValueNotSupported", f"Unsupported value: {shown}: supported values: {listed}")


def duplicate(field: str, value: Any) -> Cause:
    return Cause(field, "FieldValueDuplicate", f"Duplicate value: {msgspec.json.encode(value).decode()}")


class NamedStrategy(Strategy):
    """Checks metadata, and the fields that the built-in schema requires."""

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = list(metadata_causes(obj["metadata"], self.resource))
        if self.node is not None and not same_content(obj, old):
            causes += missing_fields(obj, self.node, "")
        return causes


def same_content(obj: Object, old: Object | None) -> bool:
    """Whether a write leaves all but metadata and status as it was: that was judged before."""
    if old is None or (obj.keys() ^ old.keys()) - {"metadata", "status"}:
        return False
    return all(value == old[name] for name, value in obj.items() if name not in ("metadata", "status"))


def metadata_causes(metadata: Object, resource: Resource) -> Iterator[Cause]:
    yield from _name_causes(metadata.get("name", ""), resource)
    for field in ("labels", "annotations"):
        values = metadata.get(field) or {}
        if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
            yield invalid_value(f"metadata.{field}", str(values)[:80], "want a map of strings to strings")
            continue
        if field == "labels":
            yield from label_causes(values, f"metadata.{field}")
        else:
            for key in values:
                # Keys of annotations are compared without case.
                yield from qualified_name(key.lower(), f"metadata.{field}")
    if (
        sum(len(k) + len(v) for k, v in (metadata.get("annotations") or {}).items() if isinstance(v, str))
        > _MAX_ANNOTATIONS
    ):
        yield Cause(
            "metadata.annotations", "FieldValueTooLong", f"Too long: may not be more than {_MAX_ANNOTATIONS} bytes"
        )
    for index, owner in enumerate(metadata.get("ownerReferences") or ()):
        for name in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(name):
                yield required(f"metadata.ownerReferences[{index}].{name}")
    if sum(bool(o.get("controller")) for o in metadata.get("ownerReferences") or ()) > 1:
        yield invalid_value("metadata.ownerReferences", 2, "only one reference can have controller set to true")


def _name_causes(name: str, resource: Resource) -> Iterator[Cause]:
    if not name:
        return  # The store gave one, or said that there is none.
    if resource.group in _PATH_NAMES:
        check = names.path_segment
    else:
        check = {"services": names.label_1035, "namespaces": names.label}.get(resource.key, names.subdomain)
    yield from (invalid_value("metadata.name", name, why) for why in check(name))


def qualified_name(key: str, field: str) -> Iterator[Cause]:
    return (invalid_value(field, key, why) for why in names.qualified(key))


def label_causes(labels: Any, field: str) -> Iterator[Cause]:
    for key, value in (labels or {}).items():
        yield from qualified_name(key, field)
        yield from (invalid_value(field, value, why) for why in names.label_value(value))


def missing_fields(value: Any, node: Node, path: str) -> list[Cause]:
    """One cause per absent required field of a built-in schema. Status is the controllers' and not judged."""
    return [required(f"{path}{place}".lstrip(".")) for place in _absent(value, node, root=not path)]


def _absent(value: Any, node: Node, *, root: bool = False) -> list[str]:
    """Where required fields are missing below `value`: `.name`, `.ports[0].port`."""
    if isinstance(value, list):
        items = node.items
        if items is None:
            return []
        return [
            f"[{index}]{place}"
            for index, child in enumerate(value)
            if isinstance(child, dict | list)
            for place in _absent(child, items)
        ]
    found = [f".{name}" for name in node.required if value.get(name) is None] if node.required else []
    for name, child in value.items():
        if not isinstance(child, dict | list) or (root and name in ("status", "metadata")):
            continue
        below = node.child(name)
        if below is not None:
            found += [f".{name}{place}" for place in _absent(child, below)]
    return found


def selector_causes(selector: Any, field: str) -> Iterator[Cause]:
    """A LabelSelector of a spec."""
    operators = ("DoesNotExist", "Exists", "In", "NotIn")
    yield from label_causes((selector or {}).get("matchLabels"), f"{field}.matchLabels")
    for index, expression in enumerate((selector or {}).get("matchExpressions") or ()):
        where = f"{field}.matchExpressions[{index}]"
        operator, values = expression.get("operator"), expression.get("values") or ()
        if operator not in operators:
            yield unsupported(f"{where}.operator", operator, operators)
        elif operator in ("In", "NotIn") and not values:
            yield required(f"{where}.values", "must be specified when operator is In or NotIn")
        elif operator in ("Exists", "DoesNotExist") and values:
            yield Cause(
                f"{where}.values",
                "FieldValueForbidden",
                "Forbidden: may not be specified when operator is Exists or DoesNotExist",
            )
