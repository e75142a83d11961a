"""What every namespace starts with: its default ServiceAccount, and the cluster's CA for those who call the API.

In: namespaces. Out: ServiceAccount `default` and ConfigMap `kube-root-ca.crt`, made anew when somebody deletes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from kubelab.apiserver.errors import AlreadyExists
from kubelab.apiserver.store import Store
from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.index import PodIndex
from kubelab.controllers.objects import Object

CA_NAME, CA_KEY = "kube-root-ca.crt", "ca.crt"


class ServiceAccountController(Controller):
    name = "serviceaccount-controller"

    def __init__(self, store: Store, *, pods: PodIndex, now: Callable[[], datetime], ca: str = "") -> None:
        """`ca` is the PEM text of the API server's CA; empty publishes none."""
        super().__init__(store, pods=pods, now=now)
        self._ca = ca

    def watches(self) -> Mapping[str, Mapper]:
        return {"namespaces": objects.own_key, "serviceaccounts": self._of, "configmaps": self._of}

    def _of(self, obj: Object) -> Iterable[Key]:
        if obj["metadata"]["name"] in ("default", CA_NAME):
            yield "", obj["metadata"]["namespace"]

    async def reconcile(self, key: Key) -> float | None:
        namespace = self.store.peek("namespaces", key[1])
        if namespace is None or objects.is_deleting(namespace):
            return None
        if self.store.peek("serviceaccounts", "default", namespace=key[1]) is None:
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
            await self._create("serviceaccounts", account, key[1])
        data = {CA_KEY: self._ca}
        present = self.store.peek("configmaps", CA_NAME, namespace=key[1])
        if self._ca and present is None:
            config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CA_NAME}, "data": data}
            await self._create("configmaps", config, key[1])
        elif self._ca and present is not None and present.get("data") != data:
            await self.store.patch("configmaps", CA_NAME, lambda old: {**old, "data": data}, namespace=key[1])
        return None

    async def _create(self, resource: str, obj: Object, namespace: str) -> None:
        try:
            await self.store.create(resource, obj, namespace=namespace)
        except AlreadyExists:
            return
