"""Kinds that the lab keeps and does not act upon: their defaults, and what they must say.

Source: Kubernetes API reference of scheduling.k8s.io/v1, storage.k8s.io/v1, apiregistration.k8s.io/v1, node.k8s.io/v1.
"""

from typing import Any

from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies import names
from kubelab.apiserver.strategies.base import Object
from kubelab.apiserver.strategies.common import NamedStrategy, invalid_value
from kubelab.apiserver.strategies.pods import default_pod_spec

_HIGHEST_PRIORITY = 1_000_000_000


def forbidden(field: str, why: str) -> Cause:
    return Cause(field, "FieldValueForbidden", f"Forbidden: {why}")


class PriorityClassStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        obj.setdefault("preemptionPolicy", "PreemptLowerPriority")

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        name, value = obj["metadata"].get("name", ""), obj.get("value") or 0
        if name.startswith("system-") and name not in ("system-cluster-critical", "system-node-critical"):
            why = "priority class names with 'system-' prefix are reserved for system use only"
            causes.append(forbidden("metadata.name", why))
        elif value > _HIGHEST_PRIORITY and not name.startswith("system-"):
            why = f"maximum allowed value of a user defined priority is {_HIGHEST_PRIORITY}"
            causes.append(forbidden("value", why))
        if old is not None:
            causes += _fixed(obj, old, ("value", "preemptionPolicy"), "may not be changed in an update.")
        return causes

    def spec_changed(self, obj: Object, old: Object) -> bool:
        return False


class RuntimeClassStrategy(NamedStrategy):
    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        if obj.get("handler"):
            causes += [invalid_value("handler", obj["handler"], why) for why in names.label(obj["handler"])]
        if old is not None and obj.get("handler") != old.get("handler"):
            causes.append(invalid_value("handler", obj.get("handler"), "field is immutable"))
        return causes


class DriverStrategy(NamedStrategy):
    """CSIDriver."""

    def default(self, obj: Object) -> None:
        spec: Any = obj.get("spec")
        if not isinstance(spec, dict):
            return
        for field, value in (
            ("attachRequired", True),
            ("podInfoOnMount", False),
            ("storageCapacity", False),
            ("fsGroupPolicy", "ReadWriteOnceWithFSType"),
            ("requiresRepublish", False),
            ("seLinuxMount", False),
        ):
            spec.setdefault(field, value)
        spec.setdefault("volumeLifecycleModes", ["Persistent"])


class ApiServiceStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        service = (obj.get("spec") or {}).get("service")
        if isinstance(service, dict):
            service.setdefault("port", 443)

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        spec, name = obj.get("spec") or {}, obj["metadata"].get("name", "")
        wanted = f"{spec.get('version', '')}.{spec.get('group', '')}"
        if name != wanted:
            why = f'must be `spec.version+"."+spec.group`: "{wanted}"'
            causes.append(invalid_value("metadata.name", name, why))
        return causes


class PodTemplateStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        default_pod_spec((obj.get("template") or {}).get("spec"))

    def spec_changed(self, obj: Object, old: Object) -> bool:
        return obj.get("template") != old.get("template")


class IngressClassStrategy(NamedStrategy):
    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        controller = (obj.get("spec") or {}).get("controller")
        if old is not None and controller != (old.get("spec") or {}).get("controller"):
            causes.append(invalid_value("spec.controller", controller, "field is immutable"))
        return causes


class EventStrategy(NamedStrategy):
    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        about, space = obj.get("involvedObject") or {}, obj["metadata"].get("namespace", "")
        named = about.get("namespace", "")
        if named != space and not (named == "" and space == "default") and "namespace" in about:
            causes.append(invalid_value("involvedObject.namespace", named, "does not match event.namespace"))
        return causes


def _fixed(obj: Object, old: Object, fields: tuple[str, ...], why: str) -> list[Cause]:
    return [forbidden(field, why) for field in fields if obj.get(field) != old.get(field)]


STRATEGIES: dict[str, type[NamedStrategy]] = {
    "priorityclasses.scheduling.k8s.io": PriorityClassStrategy,
    "runtimeclasses.node.k8s.io": RuntimeClassStrategy,
    "csidrivers.storage.k8s.io": DriverStrategy,
    "apiservices.apiregistration.k8s.io": ApiServiceStrategy,
    "podtemplates": PodTemplateStrategy,
    "ingressclasses.networking.k8s.io": IngressClassStrategy,
    "events": EventStrategy,
}
