"""A namespace uses no more than its quotas allow.

Comes in: a create, or an update that asks for more. Goes out: Forbidden that tells what was asked, used and allowed.
Usage is reckoned from the objects themselves, so it is never stale. Source: Kubernetes documentation "Resource Quotas".
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal

from kubelab.apiserver import quotas
from kubelab.apiserver.admission.base import Object, Plugin, Write
from kubelab.apiserver.errors import forbidden
from kubelab.quantities import quantity

_PLAIN = ("", "resize")


class QuotaAdmission(Plugin):
    def validate(self, write: Write) -> None:
        if not write.resource.namespaced or write.subresource not in _PLAIN:
            return
        for quota in write.store.peek_all(quotas.QUOTAS, namespace=write.namespace):
            if quotas.concerns((quota.get("spec") or {}).get("hard") or {}, write.resource):
                self._check(write, quota)

    def _check(self, write: Write, quota: Object) -> None:
        if not quotas.applies(quota, write.resource, write.obj):
            return
        name = quota["metadata"]["name"]
        if write.creates and write.resource.key == "pods":
            lacking = quotas.missing_amounts(quota, write.obj)
            if lacking:
                raise _forbidden(write, f"failed quota: {name}: must specify {'; '.join(lacking)}")
        asked = quotas.governed(quota, quotas.usage_of(write.resource, write.obj))
        if write.old is not None and quotas.applies(quota, write.resource, write.old):
            before = quotas.usage_of(write.resource, write.old)
            asked = {key: amount - before.get(key, Decimal(0)) for key, amount in asked.items()}
        asked = {key: amount for key, amount in asked.items() if amount > 0}
        if not asked:
            return
        hard = {key: quantity(text) for key, text in quota["spec"]["hard"].items()}
        used = quotas.measure(quota, (write.resource,), write.store)
        exceeded = sorted(key for key, amount in asked.items() if used[key] + amount > hard[key])
        if exceeded:
            requested, present, limited = (_shown(amounts, exceeded) for amounts in (asked, used, hard))
            why = f"exceeded quota: {name}, requested: {requested}, used: {present}, limited: {limited}"
            raise _forbidden(write, why)


def _shown(amounts: Mapping[str, Decimal], keys: Iterable[str]) -> str:
    return ",".join(f"{key}={text}" for key, text in quotas.shown({k: amounts[k] for k in keys}).items())


def _forbidden(write: Write, why: str) -> Exception:
    resource = write.resource
    name = write.obj["metadata"].get("name", "")
    return forbidden(group=resource.group, plural=resource.plural, name=name, why=why)
