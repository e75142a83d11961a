"""The status of ResourceQuotas: what the namespace uses of what it may.

In: quotas, and every namespaced object that one of them counts. Out: `status.hard` and `status.used`.
"""

from __future__ import annotations

from collections.abc import Mapping

from kubelab.apiserver import quotas
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.watch import Change
from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper


class ResourceQuotaController(Controller):
    name = "resourcequota-controller"

    def watches(self) -> Mapping[str, Mapper]:
        return {quotas.QUOTAS: objects.own_key}

    def observe(self, resource: Resource, change: Change) -> None:
        """Beside quotas themselves: any object in a namespace whose quotas count its kind."""
        super().observe(resource, change)
        if not change.namespace or resource.key == quotas.QUOTAS:
            return
        for quota in self.store.peek_all(quotas.QUOTAS, namespace=change.namespace):
            if quotas.concerns((quota.get("spec") or {}).get("hard") or {}, resource):
                self.queue.add(objects.key_of(quota))

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        quota = self.store.peek(quotas.QUOTAS, name, namespace=namespace)
        if quota is None:
            return None
        hard = (quota.get("spec") or {}).get("hard") or {}
        used = quotas.shown(quotas.measure(quota, self.store.registry, self.store))
        status = {"hard": dict(hard), "used": used}
        if (quota.get("status") or {}) != status:
            await self.store.update(quotas.QUOTAS, {**quota, "status": status}, subresource="status")
        return None
