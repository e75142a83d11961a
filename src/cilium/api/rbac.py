"""Who of our components may do what in the Kubernetes API: accounts, roles, bindings.

In: names. Out: manifests. Rights are what the agents' and the operator's sources read and their operations write,
no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Manifest = dict[str, Any]

READ = ("get", "list", "watch")
GROUP = "cilium.io"
POLICY_GROUP = "policy.networking.k8s.io"


def _rule(group: str, resources: Sequence[str], verbs: Sequence[str]) -> Manifest:
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}


AGENT_RULES = (
    _rule("", ("namespaces", "nodes", "pods", "services"), READ),
    _rule("", ("events",), ("create",)),
    _rule("discovery.k8s.io", ("endpointslices",), READ),
    _rule("networking.k8s.io", ("networkpolicies",), READ),
    _rule(POLICY_GROUP, ("clusternetworkpolicies",), READ),
    _rule(
        GROUP,
        (
            "ciliumnetworkpolicies",
            "ciliumclusterwidenetworkpolicies",
            "ciliumlocalredirectpolicies",
            "ciliumcidrgroups",
            "ciliumnodeconfigs",
        ),
        READ,
    ),
    _rule(GROUP, ("ciliumidentities",), (*READ, "create")),
    _rule(GROUP, ("ciliumendpoints",), (*READ, "create", "update", "patch", "delete")),
    _rule(GROUP, ("ciliumnodes",), (*READ, "create", "update", "patch")),
    _rule(
        GROUP,
        ("ciliumnetworkpolicies/status", "ciliumclusterwidenetworkpolicies/status", "ciliumnodes/status"),
        ("update", "patch"),
    ),
)

OPERATOR_RULES = (
    _rule("", ("namespaces", "nodes", "pods", "services"), READ),
    _rule("discovery.k8s.io", ("endpointslices",), READ),
    _rule("networking.k8s.io", ("networkpolicies",), READ),
    _rule(POLICY_GROUP, ("clusternetworkpolicies",), READ),
    _rule(POLICY_GROUP, ("clusternetworkpolicies/status",), ("update", "patch")),
    _rule("apiextensions.k8s.io", ("customresourcedefinitions",), (*READ, "create", "update", "patch")),
    _rule(GROUP, ("ciliumnetworkpolicies", "ciliumclusterwidenetworkpolicies", "ciliumcidrgroups"), READ),
    _rule(GROUP, ("ciliumidentities",), (*READ, "update", "patch", "delete")),
    _rule(GROUP, ("ciliumendpoints",), (*READ, "delete")),
    _rule(GROUP, ("ciliumnodes",), (*READ, "create", "update", "patch", "delete")),
    _rule(
        GROUP,
        ("ciliumnetworkpolicies/status", "ciliumclusterwidenetworkpolicies/status", "ciliumnodes/status"),
        ("update", "patch"),
    ),
)

LEADER_RULES = (_rule("coordination.k8s.io", ("leases",), ("get", "create", "update", "patch")),)
CONFIG_RULES = (_rule("", ("configmaps",), READ),)


def objects(namespace: str, *, agent: str, operator: str) -> list[Manifest]:
    """Accounts first, then cluster-wide rights, then those within the components' namespace."""
    found = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
        for name in (agent, operator)
    ]
    for name, rules in ((agent, AGENT_RULES), (operator, OPERATOR_RULES)):
        found += _grant("ClusterRole", name, "", rules, account=name, namespace=namespace)
    found += _grant("Role", "cilium-config-agent", namespace, CONFIG_RULES, account=agent, namespace=namespace)
    found += _grant("Role", operator, namespace, LEADER_RULES, account=operator, namespace=namespace)
    return found


def _grant(
    kind: str, name: str, within: str, rules: Sequence[Manifest], *, account: str, namespace: str
) -> list[Manifest]:
    """A role and its binding to one account; `within` is empty for cluster-wide roles."""
    metadata = {"name": name, **({"namespace": within} if within else {})}
    group = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": f"{group}/v1",
            "kind": kind,
            "metadata": dict(metadata),
            "rules": [dict(rule) for rule in rules],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": f"{kind}Binding",
            "metadata": dict(metadata),
            "roleRef": {"apiGroup": group, "kind": kind, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        },
    ]
