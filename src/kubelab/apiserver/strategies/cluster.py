"""Namespaces, nodes, and the limits of namespaces."""

from kubelab.apiserver.errors import Cause, forbidden
from kubelab.apiserver.strategies.base import Object, Reader
from kubelab.apiserver.strategies.common import NamedStrategy, invalid_value

_PROTECTED = ("default", "kube-system", "kube-public")
_NAME_LABEL = "kubernetes.io/metadata.name"


class NamespaceStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        name = obj["metadata"].get("name")
        if name:
            obj["metadata"]["labels"] = {**(obj["metadata"].get("labels") or {}), _NAME_LABEL: name}

    def prepare_create(self, obj: Object, store: Reader) -> None:
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}

    def prepare_update(self, obj: Object, old: Object, store: Reader) -> None:
        obj["spec"] = old.get("spec", {})

    def may_delete(self, obj: Object) -> None:
        name = obj["metadata"]["name"]
        if name in _PROTECTED:
            raise forbidden(group="", plural="namespaces", name=name, why="this namespace may not be deleted")

    def holds_deletion(self, obj: Object) -> bool:
        return bool((obj.get("spec") or {}).get("finalizers"))


class NodeStrategy(NamedStrategy):
    creates_status = True

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        if spec.get("podCIDR") and not spec.get("podCIDRs"):
            spec["podCIDRs"] = [spec["podCIDR"]]
        elif spec.get("podCIDRs") and not spec.get("podCIDR"):
            spec["podCIDR"] = spec["podCIDRs"][0]

    def prepare_create(self, obj: Object, store: Reader) -> None:
        """A kubelet registers its node together with its first status, so the status stays."""

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        before = (old or {}).get("spec") or {}
        for field in ("podCIDRs", "providerID"):
            if before.get(field) and obj["spec"].get(field) != before[field]:
                causes.append(invalid_value(f"spec.{field}", obj["spec"].get(field), "may not change once set"))
        return causes


class LimitRangeStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        """What one limit for containers says without saying it."""
        for item in (obj.get("spec") or {}).get("limits") or ():
            if not isinstance(item, dict) or item.get("type") != "Container":
                continue
            limits = {**(item.get("max") or {}), **(item.get("default") or {})}
            requests = {**(item.get("min") or {}), **limits, **(item.get("defaultRequest") or {})}
            if limits:
                item["default"] = limits
            if requests:
                item["defaultRequest"] = requests
