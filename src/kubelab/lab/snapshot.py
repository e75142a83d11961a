"""A snapshot: what people wrote into the API, without what controllers and nodes make of it.

In: a lab's API. Out: objects in the order in which they can be made again; a file of YAML documents or JSON lines.
`metadata.uid` stays in the file: owners are found by it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from kubelab.lab.api import LabApi, Object
from kubelab.lab.errors import LabError

RUNTIME = frozenset(
    {"nodes", "events", "leases", "endpoints", "componentstatuses", "bindings", "certificatesigningrequests"}
)
"""Resources that tell what runs, not what is wanted."""
FIRST = (
    "CustomResourceDefinition", "Namespace", "PriorityClass", "StorageClass", "IngressClass", "ClusterRole", "Role",
    "ServiceAccount", "Secret", "ConfigMap", "LimitRange", "ResourceQuota", "PersistentVolume",
    "PersistentVolumeClaim", "Service",
)  # fmt: skip
"""Kinds that others need."""
LAST = (
    "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
)  # fmt: skip
"""Kinds that could refuse the others: those who are asked are pods that do not run yet."""
_SERVERS = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink")
_PROVISIONED_BY, _PROVISIONER = "pv.kubernetes.io/provisioned-by", "volume.kubernetes.io/storage-provisioner"
BINDING = (
    _PROVISIONER, "volume.kubernetes.io/selected-node", "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
)  # fmt: skip
"""Annotations of a claim by which controllers keep what they did for it."""
_JOB_LABELS = ("controller-uid", "batch.kubernetes.io/controller-uid")
JSON_LINES = (".json", ".jsonl")


def take(api: LabApi, leave: Collection[str] = (), but: Collection[str] = ()) -> list[Object]:
    """All that is wanted. `leave`: plural names of further resources that tell what runs; `but`: objects that are left
    out, as `KIND NAMESPACE/NAME`. Raises LabError.
    """
    found = [
        obj
        for resource in _resources(api, {*RUNTIME, *leave})
        for obj in _list(api, *resource)
        if _wanted(obj) and f"{obj['kind']} {name_of(obj)}" not in but
    ]
    while True:  # what belongs to something that is left out is left out
        known = {obj["metadata"]["uid"] for obj in found}
        kept = [obj for obj in found if _owners(obj) <= known]
        if len(kept) == len(found):
            return in_order(map(cleaned, kept))
        found = kept


def in_order(objects: Iterable[Object]) -> list[Object]:
    """What others need first, owners before what they own."""
    rows = list(objects)
    by_uid = {obj["metadata"].get("uid"): obj for obj in rows}

    def depth(obj: Object) -> int:
        return max((1 + depth(by_uid[uid]) for uid in _owners(obj) if uid in by_uid), default=0)

    ranks = {kind: rank - len(FIRST) for rank, kind in enumerate(FIRST)}
    ranks |= {kind: rank for rank, kind in enumerate(LAST, start=1)}
    return sorted(rows, key=lambda obj: (ranks.get(obj["kind"], 0), depth(obj), obj["kind"], name_of(obj)))


def cleaned(obj: Object) -> Object:
    """As its author could have written it, with its uid."""
    meta = {key: value for key, value in obj["metadata"].items() if key not in _SERVERS}
    meta["uid"] = obj["metadata"].get("uid", "")
    copy: Object = {**json.loads(json.dumps({**obj, "metadata": meta}))}
    copy.pop("status", None)
    if obj["kind"] == "Pod":
        _unbind(copy["spec"])
    elif obj["kind"] == "Job" and not copy["spec"].get("manualSelector"):
        copy["spec"].pop("selector", None)
        labels = copy["spec"]["template"].get("metadata", {}).get("labels") or {}
        for label in _JOB_LABELS:
            labels.pop(label, None)
    elif obj["kind"] == "PersistentVolumeClaim" and _PROVISIONER in (meta.get("annotations") or {}):
        _unprovision(copy)
    elif obj["kind"] == "PersistentVolume" and "claimRef" in copy["spec"]:
        for field in ("uid", "resourceVersion"):
            copy["spec"]["claimRef"].pop(field, None)
    elif obj["kind"] == "Namespace":
        copy.pop("spec", None)
    return copy


def write(path: Path, objects: Iterable[Object]) -> None:
    """Raises LabError."""
    if path.suffix in JSON_LINES:
        text = "".join(json.dumps(obj, separators=(",", ":")) + "\n" for obj in objects)
    else:
        text = yaml.safe_dump_all(objects, sort_keys=False, explicit_start=True)
    try:
        path.write_text(text)
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}") from error


def read(path: Path) -> list[Object]:
    """Raises LabError naming what is not an object of Kubernetes."""
    try:
        text = path.read_text()
        if path.suffix in JSON_LINES:
            found: list[Any] = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            found = [document for document in yaml.safe_load_all(text) if document is not None]
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise LabError(f"{path}: {error}") from error
    for number, obj in enumerate(found, start=1):
        if not (isinstance(obj, dict) and {"apiVersion", "kind", "metadata"} <= obj.keys() and _named(obj)):
            raise LabError(f"{path}: object {number}: apiVersion, kind or metadata.name is missing")
    return found


def name_of(obj: Object) -> str:
    meta = obj["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])


def _named(obj: Object) -> bool:
    return isinstance(obj["metadata"], dict) and isinstance(obj["metadata"].get("name"), str)


def _resources(api: LabApi, leave: Collection[str]) -> Iterator[tuple[str, Object]]:
    """(path of the group's version, resource) of everything that can be listed and created."""
    groups = [f"/apis/{group['preferredVersion']['groupVersion']}" for group in api.get("/apis")["groups"]]
    for base in ("/api/v1", *groups):
        for resource in api.get(base)["resources"]:
            if {"list", "create"} <= set(resource["verbs"]) and resource["name"] not in leave:
                yield base, resource


def _list(api: LabApi, base: str, resource: Object) -> list[Object]:
    group = base.removeprefix("/apis/").removeprefix("/api/")
    items = api.get(f"{base}/{resource['name']}").get("items") or []
    return [{"apiVersion": group, "kind": resource["kind"], **item} for item in items]


def _wanted(obj: Object) -> bool:
    meta, kind = obj["metadata"], obj["kind"]
    labels = meta.get("labels") or {}
    if meta.get("deletionTimestamp") or labels.get("kubernetes.io/bootstrapping") == "rbac-defaults":
        return False
    match kind:
        case "Pod":
            finished = (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed")
            return not finished and not any(owner.get("controller") for owner in meta.get("ownerReferences") or ())
        case "Job":
            conditions = (obj.get("status") or {}).get("conditions") or []
            return not any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
        case "EndpointSlice":
            return not meta.get("ownerReferences") and labels.get("kubernetes.io/service-name") != "kubernetes"
        case "Secret":
            return obj.get("type") != "kubernetes.io/service-account-token"
        case "ConfigMap":
            return bool(meta["name"] != "kube-root-ca.crt")
        case "Service":
            return name_of(obj) != "default/kubernetes"
        case "PersistentVolume":
            return _PROVISIONED_BY not in (meta.get("annotations") or {})
        case "PriorityClass":
            return not meta["name"].startswith("system-")
    return True


def _owners(obj: Object) -> set[str]:
    return {owner["uid"] for owner in obj["metadata"].get("ownerReferences") or ()}


def _unprovision(claim: Object) -> None:
    """A claim for which a volume was made: another one is made for it, where its pod will be."""
    claim["spec"].pop("volumeName", None)
    annotations = {name: value for name, value in claim["metadata"]["annotations"].items() if name not in BINDING}
    claim["metadata"]["annotations"] = annotations
    if not annotations:
        del claim["metadata"]["annotations"]


def _unbind(spec: Object) -> None:
    """A pod without its place, and without the token that admission gave it."""
    spec.pop("nodeName", None)
    given = {volume["name"] for volume in spec.get("volumes") or () if volume["name"].startswith("kube-api-access-")}
    spec["volumes"] = [volume for volume in spec.get("volumes") or () if volume["name"] not in given]
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        container["volumeMounts"] = [m for m in container.get("volumeMounts") or () if m["name"] not in given]
