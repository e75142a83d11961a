"""ClusterRoles made of others.

Comes in: a ClusterRole with an aggregationRule, and all ClusterRoles. Goes out: the rules that it should have.
"""

from collections.abc import Iterable
from typing import Any

from kubelab.apiserver import selectors
from kubelab.apiserver.strategies.base import labels_of

Object = dict[str, Any]


def aggregated_rules(role: Object, roles: Iterable[Object]) -> list[Object] | None:
    """The rules of all roles that a selector of `role` picks, by name, without repetition; None: it picks none."""
    wanted = (role.get("aggregationRule") or {}).get("clusterRoleSelectors")
    if not wanted:
        return None
    others = sorted((r for r in roles if _name(r) != _name(role)), key=_name)
    rules: list[Object] = []
    for selector in map(selectors.from_spec, wanted):
        for other in others:
            if selector is not None and selector.matches(labels_of(other)):
                rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules


def _name(role: Object) -> str:
    return str(role["metadata"]["name"])
