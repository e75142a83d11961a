"""Columns of volumes: claims, PersistentVolumes, StorageClasses."""

from datetime import datetime

from kubelab.apiserver.printers.columns import Column, Object, age_column, dig, name_column, path_column

_SHORT_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
_DEFAULTS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
UNSET = "<unset>"


def columns() -> dict[str, tuple[Column, ...]]:
    name, aged = name_column(), age_column()
    attributes = path_column("VolumeAttributesClass", "spec.volumeAttributesClassName", default=UNSET)
    mode = path_column("VolumeMode", "spec.volumeMode", default=UNSET, priority=1)
    storage_class = path_column("StorageClass", "spec.storageClassName", default="")
    return {
        "persistentvolumeclaims": (
            name,
            Column("Status", _phase),
            path_column("Volume", "spec.volumeName", default=""),
            path_column("Capacity", "status.capacity.storage", default=""),
            Column("Access Modes", lambda o, _: _modes(dig(o, "status.accessModes", []))),
            storage_class,
            attributes,
            aged,
            mode,
        ),
        "persistentvolumes": (
            name,
            path_column("Capacity", "spec.capacity.storage", default=""),
            Column("Access Modes", lambda o, _: _modes(dig(o, "spec.accessModes", []))),
            path_column("Reclaim Policy", "spec.persistentVolumeReclaimPolicy", default=""),
            Column("Status", _phase),
            Column("Claim", _claim),
            storage_class,
            attributes,
            path_column("Reason", "status.reason", default=""),
            aged,
            mode,
        ),
        "storageclasses.storage.k8s.io": (
            Column("Name", _class_name, format="name"),
            path_column("Provisioner", "provisioner", default=""),
            path_column("ReclaimPolicy", "reclaimPolicy", default="Delete"),
            path_column("VolumeBindingMode", "volumeBindingMode", default="Immediate"),
            Column("AllowVolumeExpansion", lambda o, _: bool(o.get("allowVolumeExpansion")), type="boolean"),
            aged,
        ),
    }


def _modes(modes: list[str]) -> str:
    return ",".join(_SHORT_MODES.get(mode, mode) for mode in modes)


def _phase(obj: Object, _: datetime) -> str:
    return "Terminating" if "deletionTimestamp" in obj["metadata"] else str(dig(obj, "status.phase", ""))


def _claim(volume: Object, _: datetime) -> str:
    reference = dig(volume, "spec.claimRef") or {}
    return f"{reference.get('namespace', '')}/{reference['name']}" if reference else ""


def _class_name(storage_class: Object, _: datetime) -> str:
    annotations = storage_class["metadata"].get("annotations") or {}
    default = any(annotations.get(key) == "true" for key in _DEFAULTS)
    return f"{storage_class['metadata']['name']}{' (default)' if default else ''}"
