"""Kubernetes label selectors as requirements on security labels.

In: `matchLabels` and `matchExpressions`. Out: `Selector`s whose keys carry the source of the label: `k8s:app`,
`reserved:host`, and `any:app` where a Cilium policy names none.
"""

from __future__ import annotations

import re

import msgspec

from cilium.sources.kubernetes.policies.errors import PolicyError
from cilium.tables.labels import CLUSTER, NAMESPACE
from cilium.tables.rules import Requirement, Selector

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


class Expression(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    operator: str
    values: tuple[str, ...] | None = None


class LabelSelector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As in meta/v1."""

    matchLabels: dict[str, str] | None = None  # noqa: N815 - the API's name
    matchExpressions: tuple[Expression, ...] | None = None  # noqa: N815


def requirements(selector: LabelSelector, path: str, *, source: str, prefix: str = "") -> tuple[Requirement, ...]:
    """The terms of `selector`; keys without a source get `source`, and every key `prefix` after it.

    Raises PolicyError naming the label or expression that Kubernetes would refuse too.
    """
    terms = []
    for key, value in sorted((selector.matchLabels or {}).items()):
        where = f"{path}.matchLabels[{key}]"
        terms.append(Requirement(_key(key, where, source, prefix), "In", (_value(value, where),)))
    for index, expression in enumerate(selector.matchExpressions or ()):
        where = f"{path}.matchExpressions[{index}]"
        terms.append(_requirement(expression, where, source, prefix))
    return tuple(terms)


def _requirement(expression: Expression, path: str, source: str, prefix: str) -> Requirement:
    if expression.operator not in _OPERATORS:
        raise PolicyError(f"{path}.operator", f"{expression.operator!r} is not one of {', '.join(_OPERATORS)}")
    values = expression.values or ()
    if expression.operator in {"In", "NotIn"} and not values:
        raise PolicyError(f"{path}.values", f"operator {expression.operator} needs at least one value")
    if expression.operator in {"Exists", "DoesNotExist"} and values:
        raise PolicyError(f"{path}.values", f"operator {expression.operator} takes no values")
    checked = tuple(_value(value, f"{path}.values[{index}]") for index, value in enumerate(values))
    return Requirement(_key(expression.key, f"{path}.key", source, prefix), expression.operator, checked)


def _key(key: str, path: str, source: str, prefix: str) -> str:
    named, colon, bare = key.partition(":")
    if not colon:
        named, bare = source, key
    domain, slash, name = bare.rpartition("/")
    if named in {"any", "k8s", "node"} and (not _NAME.fullmatch(name) or (slash and not domain) or len(domain) > 253):
        raise PolicyError(path, f"{key!r} is not a label key: letters, digits, '-', '_', '.', at most 63 after the '/'")
    if not named or not bare:
        raise PolicyError(path, f"{key!r} is not a label key: source or name is empty")
    return f"{named}:{prefix}{bare}"


def _value(value: str, path: str) -> str:
    if not _VALUE.fullmatch(value):
        raise PolicyError(path, f"{value!r} is not a label value: letters, digits, '-', '_', '.', at most 63")
    return value


def names(terms: tuple[Requirement, ...], *keys: str) -> bool:
    """Whether a term is about one of these Kubernetes labels; a key that ends in '.' stands for all that begin so."""
    bare = [term.key.partition(":")[2] for term in terms if term.key.startswith(("k8s:", "any:"))]
    return any(label == key or (key.endswith(".") and label.startswith(key)) for label in bare for key in keys)


def is_reserved(terms: tuple[Requirement, ...]) -> bool:
    """Whether a term demands a reserved identity, which belongs to no namespace and no cluster."""
    return any(term.key.startswith("reserved:") and term.operator in {"In", "Exists"} for term in terms)


def in_namespace(namespace: str) -> Requirement:
    return Requirement(f"k8s:{NAMESPACE}", "In", (namespace,))


def in_any_namespace() -> Requirement:
    return Requirement(f"k8s:{NAMESPACE}", "Exists")


def in_cluster(cluster: str) -> Requirement:
    return Requirement(f"k8s:{CLUSTER}", "In", (cluster,))


def local(terms: tuple[Requirement, ...], *, cluster: str) -> Selector:
    """A peer selector means this cluster unless it names one."""
    if names(terms, CLUSTER):
        return Selector(terms)
    return Selector((*terms, in_cluster(cluster)))
