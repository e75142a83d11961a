"""Rules that all kinds share: names, labels, required fields, immutability.

Owns: the checks of metadata and the required fields of the built-in schemas. Comes in: an object. Goes out: causes.
Source: RFC 1123, RFC 1035; Kubernetes documentation "Object Names and IDs", "Labels and Selectors".
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from kubelab.apiserver.errors import Cause
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.schemas import Node
from kubelab.apiserver.strategies.base import Object, Strategy

_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_LABEL_1035 = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_QUALIFIED = re.compile(r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
_PATH_NAMES = ("rbac.authorization.k8s.io",)
_LABEL_NAMES = ("namespaces", "services")
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
        if self.node is not None:
            causes += missing_fields(obj, self.node, "")
        return causes


def metadata_causes(metadata: Object, resource: Resource) -> Iterator[Cause]:
    yield from _name_causes(metadata.get("name", ""), resource)
    for field in ("labels", "annotations"):
        values = metadata.get(field) or {}
        if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
            yield invalid_value(f"metadata.{field}", str(values)[:80], "want a map of strings to strings")
            continue
        for key, value in values.items():
            yield from qualified_name(key, f"metadata.{field}")
            if field == "labels":
                yield from label_value(value, f"metadata.{field}")
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
    if resource.group in _PATH_NAMES:
        if name in (".", "..") or "/" in name or "%" in name:
            yield invalid_value("metadata.name", name, "may not be '.', '..', or contain '/' or '%'")
    elif resource.key in _LABEL_NAMES:
        pattern = _LABEL_1035 if resource.key == "services" else _LABEL
        if len(name) > 63 or not pattern.match(name):
            why = "want at most 63 lower case letters, digits or '-', starting and ending alphanumeric"
            yield invalid_value("metadata.name", name, f"a lowercase RFC 1123 label is expected: {why}")
    elif len(name) > 253 or not _SUBDOMAIN.match(name):
        why = "want at most 253 lower case letters, digits, '-' or '.', starting and ending alphanumeric"
        yield invalid_value("metadata.name", name, f"a lowercase RFC 1123 subdomain is expected: {why}")


def is_label(text: str) -> bool:
    return len(text) <= 63 and bool(_LABEL.match(text))


def qualified_name(key: str, field: str) -> Iterator[Cause]:
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not _SUBDOMAIN.match(prefix)):
        yield invalid_value(field, key, "prefix part must be a lowercase RFC 1123 subdomain")
    if not name or len(name) > 63 or not _QUALIFIED.match(name):
        yield invalid_value(
            field, key, "name part must be 1 to 63 letters, digits, '-', '_' or '.', starting and ending alphanumeric"
        )


def label_value(value: str, field: str) -> Iterator[Cause]:
    if len(value) > 63 or (value and not _QUALIFIED.match(value)):
        yield invalid_value(
            field,
            value,
            "a valid label is empty or 1 to 63 letters, digits, '-', '_' or '.', starting and ending alphanumeric",
        )


def missing_fields(value: Any, node: Node, path: str) -> list[Cause]:
    """One cause per absent required field of a built-in schema. Status is the controllers' and not judged."""
    causes: list[Cause] = []
    if isinstance(value, dict):
        absent = [name for name in node.schema.get("required", ()) if value.get(name) is None]
        causes += [required(f"{path}.{name}" if path else name) for name in absent]
        for name, child in value.items():
            if not path and name in ("status", "metadata"):
                continue
            below = node.child(name)
            if below is not None and child is not None:
                causes += missing_fields(child, below, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and node.items is not None:
        for index, child in enumerate(value):
            causes += missing_fields(child, node.items, f"{path}[{index}]")
    return causes


def selector_causes(selector: Any, field: str) -> Iterator[Cause]:
    """A LabelSelector of a spec."""
    operators = ("DoesNotExist", "Exists", "In", "NotIn")
    for key, value in ((selector or {}).get("matchLabels") or {}).items():
        yield from qualified_name(key, f"{field}.matchLabels")
        yield from label_value(value, f"{field}.matchLabels")
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
