"""Role based access control.

Owns: the decision by roles and bindings. Comes in: attributes; the store's RBAC objects. Goes out: decisions with their
reason, and the rules that a user holds. What a user holds is worked out once and kept as a table of (verb, group,
resource) until an RBAC object changes: a decision is a few look-ups. Source: Kubernetes documentation "Using RBAC
Authorization".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from kubelab.apiserver.authorization.attributes import Attributes, Decision
from kubelab.apiserver.authorization.rules import ALL, Rule, url_matches
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.store import Store
from kubelab.apiserver.users import User, account_name
from kubelab.apiserver.watch import Change

GROUP = "rbac.authorization.k8s.io"
ROLES, CLUSTER_ROLES = f"roles.{GROUP}", f"clusterroles.{GROUP}"
BINDINGS, CLUSTER_BINDINGS = f"rolebindings.{GROUP}", f"clusterrolebindings.{GROUP}"
_MAX_USERS = 1000

Object = dict[str, Any]
Subject = tuple[str, str]
Bindings = dict[Subject, list[tuple[Object, Object]]]


@dataclass(slots=True)
class _Holding:
    """What one user holds in one namespace, or cluster-wide."""

    rules: list[Rule] = field(default_factory=list)
    table: dict[tuple[str, str, str], list[tuple[Rule, str]]] = field(default_factory=dict)
    urls: list[tuple[Rule, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def add(self, rule: Rule, reason: str) -> None:
        self.rules.append(rule)
        for key in product(rule.verbs, rule.groups, rule.resources):
            self.table.setdefault(key, []).append((rule, reason))
        if rule.urls:
            self.urls.append((rule, reason))

    def reason(self, asked: Attributes) -> str | None:
        """Why it is allowed; None: it is not."""
        if not asked.resource:
            for rule, reason in self.urls:
                verb = asked.verb in rule.verbs or ALL in rule.verbs
                if verb and any(url_matches(url, asked.path) for url in rule.urls):
                    return reason
            return None
        resources = [asked.qualified, ALL]
        if asked.subresource:
            resources.append(f"{ALL}/{asked.subresource}")
        for key in product((asked.verb, ALL), (asked.group, ALL), resources):
            for rule, reason in self.table.get(key, ()):
                if not rule.names or asked.name in rule.names:
                    return reason
        return None


class RbacAuthorizer:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._bindings: tuple[Bindings, dict[str, Bindings]] | None = None
        self._holdings: dict[tuple[str, tuple[str, ...], str], _Holding] = {}
        store.on_commit(self._observe)

    def decide(self, attributes: Attributes) -> Decision:
        broken: list[str] = []
        for holding in self._of(attributes.user, attributes.namespace):
            reason = holding.reason(attributes)
            if reason is not None:
                return Decision(True, f"RBAC: allowed by {reason}")
            broken += holding.broken
        return Decision(False, f"RBAC: {', '.join(broken)}" if broken else "")

    def rules(self, user: User, namespace: str = "") -> list[Rule]:
        """Every rule that holds for the user in the namespace, or cluster-wide."""
        return [rule for holding in self._of(user, namespace) for rule in holding.rules]

    def role_rules(self, reference: Mapping[str, Any], namespace: str) -> list[Rule] | None:
        """The rules of the role that a binding names; None: there is no such role."""
        role = self._role(reference, namespace)
        return None if role is None else [Rule.read(rule) for rule in role.get("rules") or ()]

    def _of(self, user: User, namespace: str) -> Iterator[_Holding]:
        yield self._holding(user, "")
        if namespace:
            yield self._holding(user, namespace)

    def _holding(self, user: User, namespace: str) -> _Holding:
        key = (user.name, user.groups, namespace)
        holding = self._holdings.get(key)
        if holding is None:
            if len(self._holdings) >= _MAX_USERS:
                self._holdings.clear()
            holding = self._holdings[key] = self._collect(user, namespace)
        return holding

    def _collect(self, user: User, namespace: str) -> _Holding:
        holding = _Holding()
        cluster, spaces = self._index()
        bindings = spaces.get(namespace, {}) if namespace else cluster
        for subject in (("User", user.name), *(("Group", group) for group in user.groups)):
            for binding, named in bindings.get(subject, ()):
                reference = binding["roleRef"]
                rules = self.role_rules(reference, namespace)
                if rules is None:
                    kind = f"{reference.get('kind', '').lower()}.{GROUP}"
                    holding.broken.append(f'{kind} "{reference.get("name", "")}" not found')
                for rule in rules or ():
                    holding.add(rule, _explain(binding, named))
        return holding

    def _index(self) -> tuple[Bindings, dict[str, Bindings]]:
        if self._bindings is None:
            cluster: Bindings = {}
            spaces: dict[str, Bindings] = {}
            for binding in self._store.peek_all(CLUSTER_BINDINGS):
                _enter(cluster, binding, "")
            for binding in self._store.peek_all(BINDINGS):
                namespace = binding["metadata"]["namespace"]
                _enter(spaces.setdefault(namespace, {}), binding, namespace)
            self._bindings = cluster, spaces
        return self._bindings

    def _role(self, reference: Mapping[str, Any], namespace: str) -> Object | None:
        name = reference.get("name", "")
        if reference.get("kind") == "Role":
            return self._store.peek(ROLES, name, namespace=namespace) if namespace else None
        return self._store.peek(CLUSTER_ROLES, name)

    def _observe(self, resource: Resource, change: Change) -> None:
        if resource.group == GROUP:
            self._holdings.clear()
            if resource.key in (BINDINGS, CLUSTER_BINDINGS):
                self._bindings = None


def _enter(bindings: Bindings, binding: Object, namespace: str) -> None:
    for subject in binding.get("subjects") or ():
        kind, name = subject.get("kind", ""), subject.get("name", "")
        if kind == "ServiceAccount":
            key = ("User", account_name(subject.get("namespace") or namespace, name))
        else:
            key = (kind, name)
        bindings.setdefault(key, []).append((binding, subject))


def _explain(binding: Object, subject: Mapping[str, Any]) -> str:
    """`ClusterRoleBinding "b" of ClusterRole "r" to User "u"`."""
    metadata, role = binding["metadata"], binding["roleRef"]
    namespace = metadata.get("namespace")
    name = f"{metadata['name']}/{namespace}" if namespace else metadata["name"]
    whom = f'{subject.get("kind")} "{subject.get("name")}"'
    if subject.get("kind") == "ServiceAccount":
        whom = f'ServiceAccount "{subject.get("name")}/{subject.get("namespace") or namespace}"'
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    return f'{kind} "{name}" of {role.get("kind")} "{role.get("name")}" to {whom}'
