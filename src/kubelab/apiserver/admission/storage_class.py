"""A claim that names no storage class gets the default one, if there is one.

Comes in: a new PersistentVolumeClaim. Goes out: the claim with `storageClassName`.
"""

from kubelab.apiserver.admission.base import Object, Plugin, Write

_CLASSES = "storageclasses.storage.k8s.io"
_DEFAULT = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


class StorageClassAdmission(Plugin):
    handles = frozenset({"persistentvolumeclaims"})

    def mutate(self, write: Write) -> None:
        spec = write.obj.get("spec")
        if not write.creates or not isinstance(spec, dict) or spec.get("storageClassName") is not None:
            return
        # Of several defaults the newest counts.
        defaults = [c for c in write.store.peek_all(_CLASSES) if _is_default(c)]
        if defaults:
            newest = max(defaults, key=lambda c: str(c["metadata"].get("creationTimestamp", "")))
            spec["storageClassName"] = newest["metadata"]["name"]


def _is_default(storage_class: Object) -> bool:
    annotations = storage_class["metadata"].get("annotations") or {}
    return any(annotations.get(key) == "true" for key in _DEFAULT)
