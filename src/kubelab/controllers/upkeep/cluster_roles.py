"""ClusterRoles made of others: their rules follow the roles that bear the labels they select.

In: ClusterRoles. Out: the `rules` of those with an aggregationRule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubelab.apiserver.authorization.aggregation import aggregated_rules
from kubelab.apiserver.authorization.rbac import CLUSTER_ROLES
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.objects import Object, key_of


class ClusterRoleAggregationController(Controller):
    name = "clusterrole-aggregation-controller"

    def watches(self) -> Mapping[str, Mapper]:
        return {CLUSTER_ROLES: self._concerned}

    def _concerned(self, role: Object) -> Iterable[Key]:
        """Any role may be a part of any that aggregates; there are few of these."""
        yield key_of(role)
        for other in self.store.peek_all(CLUSTER_ROLES):
            if other.get("aggregationRule"):
                yield key_of(other)

    async def reconcile(self, key: Key) -> float | None:
        role = self.store.peek(CLUSTER_ROLES, key[1])
        rules = None if role is None else aggregated_rules(role, self.store.peek_all(CLUSTER_ROLES))
        if role is not None and rules is not None and rules != (role.get("rules") or []):
            await self.store.update(CLUSTER_ROLES, {**role, "rules": rules})
        return None
