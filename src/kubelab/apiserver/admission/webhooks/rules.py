"""Which writes a webhook or a policy names.

Comes in: rules (groups, versions, resources, operations, scope), selectors of namespaces and objects, a write. Goes
out: the version in which the write is meant, or None. With matchPolicy Equivalent a rule for one version of a resource
means all of them, with Exact only requests of that version.
Source: Kubernetes documentation "Dynamic Admission Control", "Matching requests".
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubelab.apiserver.admission.base import UPDATE, Write
from kubelab.apiserver.errors import not_found
from kubelab.apiserver.requests import ASKED
from kubelab.apiserver.selectors import LabelSelector, from_spec

Object = dict[str, Any]
_EXEMPT = "admissionregistration.k8s.io"
"""Nobody may shut out who would let them in again."""


@dataclass(frozen=True, slots=True)
class Rule:
    groups: frozenset[str]
    versions: frozenset[str]
    operations: frozenset[str]
    resources: frozenset[str]
    scope: str
    names: frozenset[str]
    "Policies only; empty: every name."

    @classmethod
    def read(cls, rule: Mapping[str, Any]) -> "Rule":
        fields = ("apiGroups", "apiVersions", "operations", "resources")
        groups, versions, operations, resources = (frozenset(rule.get(field) or ()) for field in fields)
        names = frozenset(rule.get("resourceNames") or ())
        return cls(groups, versions, operations, resources, rule.get("scope") or "*", names)

    def concerns(self, group: str, plural: str, subresource: str) -> bool:
        """Whether it names such a resource."""
        if not self.groups & {"*", group}:
            return False
        if "*/*" in self.resources:
            return True
        if not subresource:
            return bool(self.resources & {"*", plural})
        return bool(self.resources & {f"{plural}/{subresource}", f"*/{subresource}", f"{plural}/*"})

    def matches(self, write: Write, version: str) -> bool:
        resource = write.resource
        return (
            bool(self.operations & {"*", write.verb})
            and bool(self.versions & {"*", version})
            and self._in_scope(write)
            and (not self.names or write.target in self.names)
            and self.concerns(resource.group, resource.plural, write.subresource)
        )

    def _in_scope(self, write: Write) -> bool:
        return self.scope == "*" or (self.scope == "Namespaced") == write.resource.namespaced


@dataclass(frozen=True, slots=True)
class Match:
    """What a webhook (`rules`) or the matchConstraints of a policy (`resourceRules`) name."""

    rules: tuple[Rule, ...]
    excluded: tuple[Rule, ...]
    exact: bool
    namespaces: LabelSelector | None
    objects: LabelSelector | None

    @classmethod
    def read(cls, spec: Mapping[str, Any], *, rules: str = "rules") -> "Match":
        return cls(
            tuple(Rule.read(rule) for rule in spec.get(rules) or ()),
            tuple(Rule.read(rule) for rule in spec.get("excludeResourceRules") or ()),
            spec.get("matchPolicy") == "Exact",
            _selector(spec.get("namespaceSelector")),
            _selector(spec.get("objectSelector")),
        )

    def concerns(self, write: Write) -> bool:
        """Whether a write of such a resource can match, whatever is written, and how."""
        resource = write.resource
        if resource.group == _EXEMPT:
            return False
        return any(rule.concerns(resource.group, resource.plural, write.subresource) for rule in self.rules)

    def version(self, write: Write) -> str | None:
        """The version of the resource in which the write matches. Raises NotFound for a namespace that is gone."""
        if write.subresource == "binding" and write.verb == UPDATE:
            return None  # That a pod gets a node was asked about as the creation of a binding.
        if not self._selects(write):
            return None
        asked = asked_version(write)
        if any(rule.matches(write, asked) for rule in self.excluded):
            return None
        if any(rule.matches(write, asked) for rule in self.rules):
            return asked
        others = () if self.exact else (v for v in write.resource.versions if v != asked)
        return _first(others, lambda version: any(rule.matches(write, version) for rule in self.rules))

    def _selects(self, write: Write) -> bool:
        if self.objects is not None:
            both = (obj for obj in (write.obj, write.old) if obj is not None)
            if not any(self.objects.matches(obj.get("metadata", {}).get("labels")) for obj in both):
                return False
        return self.namespaces is None or _namespace_selected(self.namespaces, write)


def asked_version(write: Write) -> str:
    """In which the request names the resource; what no request asked for is meant as it is stored."""
    asked = ASKED.get()
    return asked if asked in write.resource.versions else write.resource.storage_version


def _namespace_selected(selector: LabelSelector, write: Write) -> bool:
    if write.resource.key == "namespaces":
        return selector.matches(write.obj["metadata"].get("labels"))
    if not write.resource.namespaced:
        return True
    namespace = write.store.peek("namespaces", write.namespace)
    if namespace is None:
        raise not_found(group="", plural="namespaces", name=write.namespace)
    return selector.matches(namespace["metadata"].get("labels"))


def _selector(spec: Mapping[str, Any] | None) -> LabelSelector | None:
    """None for one that selects everything."""
    return from_spec(spec) if spec else None


def _first(values: Iterable[str], holds: Callable[[str], bool]) -> str | None:
    return next((value for value in values if holds(value)), None)
