"""Secrets of type kubernetes.io/service-account-token: the old way to a token that does not expire.

In: such Secrets with the annotation `kubernetes.io/service-account.name`, ServiceAccounts. Out: token, CA and namespace
in the Secret; the Secret goes with its account.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from kubelab.apiserver.errors import NotFound
from kubelab.apiserver.store import Store
from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.index import PodIndex
from kubelab.controllers.objects import Object

TYPE = "kubernetes.io/service-account-token"
NAME, UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"
Issue = Callable[[Object, str], str]
"""(ServiceAccount, name of the Secret) -> a token."""


class TokenSecretController(Controller):
    name = "tokens-controller"

    def __init__(
        self, store: Store, *, pods: PodIndex, now: Callable[[], datetime], issue: Issue, ca: str = ""
    ) -> None:
        super().__init__(store, pods=pods, now=now)
        self._issue, self._ca = issue, ca

    def watches(self) -> Mapping[str, Mapper]:
        return {"secrets": self._own, "serviceaccounts": self._of_account}

    def _own(self, secret: Object) -> Iterable[Key]:
        if secret.get("type") == TYPE:
            yield objects.key_of(secret)

    def _of_account(self, account: Object) -> Iterable[Key]:
        namespace, name = objects.key_of(account)
        for secret in self.store.peek_all("secrets", namespace=namespace):
            if secret.get("type") == TYPE and objects.annotations_of(secret).get(NAME) == name:
                yield objects.key_of(secret)

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        secret = self.store.peek("secrets", name, namespace=namespace)
        if secret is None or objects.is_deleting(secret):
            return None
        annotations = objects.annotations_of(secret)
        account = self.store.peek("serviceaccounts", annotations.get(NAME, ""), namespace=namespace)
        if account is None or annotations.get(UID, objects.uid_of(account)) != objects.uid_of(account):
            await self._remove(secret)
            return None
        data = dict(secret.get("data") or {})
        wanted = {"ca.crt": self._ca, "namespace": namespace}
        data |= {field: _base64(text) for field, text in wanted.items() if text}
        if not data.get("token"):
            data["token"] = _base64(self._issue(account, name))
        marked = {**annotations, UID: objects.uid_of(account)}
        if data != secret.get("data") or marked != annotations:
            metadata = {**secret["metadata"], "annotations": marked}
            await self.store.update("secrets", {**secret, "metadata": metadata, "data": data})
        return None

    async def _remove(self, secret: Object) -> None:
        namespace, name = objects.key_of(secret)
        try:
            await self.store.delete("secrets", name, namespace=namespace, uid=objects.uid_of(secret))
        except NotFound:
            return


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
