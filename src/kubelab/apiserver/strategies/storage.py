"""Volumes: claims, persistent volumes, storage classes, and budgets of disruption: defaults and validation."""

from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies.base import Object, Reader
from kubelab.apiserver.strategies.common import NamedStrategy, invalid_value, required, selector_causes, unsupported

CLAIM_FINALIZER, VOLUME_FINALIZER = "kubernetes.io/pvc-protection", "kubernetes.io/pv-protection"
CLASSES = "storageclasses.storage.k8s.io"
_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_BINDING = ("Immediate", "WaitForFirstConsumer")
_EVICTION = ("AlwaysAllow", "IfHealthyBudget")


def default_claim_spec(spec: object) -> None:
    if isinstance(spec, dict):
        spec.setdefault("volumeMode", "Filesystem")


def _protect(obj: Object, finalizer: str) -> None:
    finalizers = obj["metadata"].get("finalizers") or []
    if finalizer not in finalizers:
        obj["metadata"]["finalizers"] = [*finalizers, finalizer]


def _mode_causes(spec: Object) -> list[Cause]:
    modes = spec.get("accessModes") or ()
    if not modes:
        return [required("spec.accessModes", "at least 1 access mode is required")]
    return [unsupported("spec.accessModes", mode, _MODES) for mode in modes if mode not in _MODES]


class ClaimStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        default_claim_spec(obj.get("spec"))

    def prepare_create(self, obj: Object, store: Reader) -> None:
        obj["status"] = {"phase": "Pending"}
        _protect(obj, CLAIM_FINALIZER)

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return [*causes, required("spec")]
        causes += _mode_causes(spec)
        if not ((spec.get("resources") or {}).get("requests") or {}).get("storage"):
            causes.append(required("spec.resources[storage]"))
        causes += selector_causes(spec.get("selector"), "spec.selector")
        if old is not None and _fixed_claim(spec, old["spec"]) != _fixed_claim(old["spec"], old["spec"]):
            why = (
                "Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName "
                "for bound claims"
            )
            causes.append(Cause("spec", "FieldValueForbidden", why))
        return causes


def _fixed_claim(spec: Object, old: Object) -> Object:
    """What no update of a claim may change; a volume and a default class may still be filled in."""
    open_fields = {"resources", "volumeAttributesClassName"}
    open_fields |= {name for name in ("volumeName", "storageClassName") if not old.get(name)}
    return {name: value for name, value in spec.items() if name not in open_fields}


class VolumeStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        spec = obj.get("spec")
        if isinstance(spec, dict):
            spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
            spec.setdefault("volumeMode", "Filesystem")
            if isinstance(spec.get("hostPath"), dict):
                spec["hostPath"].setdefault("type", "")

    def prepare_create(self, obj: Object, store: Reader) -> None:
        obj["status"] = {"phase": "Pending"}
        _protect(obj, VOLUME_FINALIZER)

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return [*causes, required("spec")]
        causes += _mode_causes(spec)
        if not (spec.get("capacity") or {}).get("storage"):
            causes.append(required("spec.capacity"))
        policy = spec.get("persistentVolumeReclaimPolicy")
        if policy not in ("Delete", "Recycle", "Retain"):
            causes.append(unsupported("spec.persistentVolumeReclaimPolicy", policy, ("Delete", "Recycle", "Retain")))
        return causes


class StorageClassStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        obj.setdefault("reclaimPolicy", "Delete")
        obj.setdefault("volumeBindingMode", "Immediate")

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        if obj.get("reclaimPolicy") not in ("Delete", "Retain"):
            causes.append(unsupported("reclaimPolicy", obj.get("reclaimPolicy"), ("Delete", "Retain")))
        if obj.get("volumeBindingMode") not in _BINDING:
            causes.append(unsupported("volumeBindingMode", obj.get("volumeBindingMode"), _BINDING))
        if old is not None:
            for field in ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"):
                if obj.get(field) != old.get(field):
                    why = "Forbidden: updates to " + field + " are forbidden."
                    causes.append(Cause(field, "FieldValueForbidden", why))
        return causes


class DisruptionBudgetStrategy(NamedStrategy):
    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return causes
        if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
            why = "minAvailable and maxUnavailable cannot be both set"
            causes.append(invalid_value("spec", {k: spec[k] for k in ("minAvailable", "maxUnavailable")}, why))
        for field in ("minAvailable", "maxUnavailable"):
            causes += _share_causes(spec.get(field), f"spec.{field}")
        policy = spec.get("unhealthyPodEvictionPolicy")
        if policy is not None and policy not in _EVICTION:
            causes.append(unsupported("spec.unhealthyPodEvictionPolicy", policy, _EVICTION))
        return causes + list(selector_causes(spec.get("selector"), "spec.selector"))


def _share_causes(value: object, field: str) -> list[Cause]:
    """A number of at least 0, or a percentage up to 100."""
    if value is None or (isinstance(value, int) and value >= 0):
        return []
    if isinstance(value, int):
        return [invalid_value(field, value, "must be greater than or equal to 0")]
    text = str(value)
    if not text.endswith("%") or not text[:-1].isdecimal():
        return [
            invalid_value(field, value, "a valid percent string must be a numeric string followed by an ending '%'")
        ]
    return [invalid_value(field, value, "must not be greater than 100%")] if int(text[:-1]) > 100 else []
