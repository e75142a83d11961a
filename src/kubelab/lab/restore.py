"""A snapshot becomes a cluster again: the lab it is of, or another one.

In: objects of a snapshot. Out: each created, or brought to what the snapshot says; what is not in it stays as it is.
One that is refused is told with the reason, and the others go on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kubelab.lab.api import ApiRefusedError, LabApi, Object
from kubelab.lab.errors import LabError
from kubelab.lab.snapshot import BINDING, cleaned, in_order, name_of

_PLACES = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort")
"""Of a Service that is there: what it was given once stays."""


@dataclass(slots=True)
class Restored:
    """What became of the objects; `failed` has name and reason."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def restore(api: LabApi, objects: Iterable[Object], progress: Callable[[str], None] = lambda _: None) -> Restored:
    """In the order in which they need each other. Raises OSError when the API server is away."""
    result, uids = Restored(), dict[str, str]()
    for obj in in_order(objects):
        name = f"{obj['kind']} {name_of(obj)}"
        try:
            stored, done = _restore_one(api, _owned(obj, uids))
        except LabError as error:
            reason = error.reason if isinstance(error, ApiRefusedError) else str(error)
            result.failed.append((name, reason))
            progress(f"{name}: {reason}")
            continue
        uids[obj["metadata"].get("uid", "")] = stored["metadata"]["uid"]
        getattr(result, done).append(name)
    return result


def _owned(obj: Object, uids: dict[str, str]) -> Object:
    """With the uids that its owners have now. Raises LabError when one of them could not be restored."""
    meta = {key: value for key, value in obj["metadata"].items() if key != "uid"}
    references = meta.get("ownerReferences") or []
    for owner in references:
        if owner["uid"] not in uids:
            raise LabError(f"its owner {owner['kind']} {owner['name']} is not there")
    if references:
        meta["ownerReferences"] = [{**owner, "uid": uids[owner["uid"]]} for owner in references]
    return {**obj, "metadata": meta}


def _restore_one(api: LabApi, obj: Object) -> tuple[Object, str]:
    """What is stored, and how it came to be. Raises LabError."""
    path = api.collection(obj)
    try:
        created = api.request("POST", path, obj)
    except ApiRefusedError as error:
        if error.code != 409:
            raise
    else:
        api.defined(obj)
        return created, "created"
    for attempt in (1, 2, 3):
        current = api.get(f"{path}/{obj['metadata']['name']}")
        wanted = _over(obj, current)
        if _same(wanted, current):
            return current, "unchanged"
        try:
            return api.request("PUT", f"{path}/{obj['metadata']['name']}", wanted), "updated"
        except ApiRefusedError as error:
            if error.code != 409 or attempt == 3:
                raise
    raise AssertionError("three attempts return or raise")


def _over(obj: Object, current: Object) -> Object:
    """The snapshot's content in the place of the current one."""
    kept = {key: current["metadata"][key] for key in ("resourceVersion", "uid") if key in current["metadata"]}
    wanted: Object = {**obj, "metadata": {**obj["metadata"], **kept}}
    spec = current.get("spec") or {}
    if obj["kind"] == "Service":
        wanted["spec"] = {**obj["spec"], **{key: spec[key] for key in _PLACES if key in spec}}
    elif obj["kind"] in ("Pod", "Job", "Namespace", "PersistentVolumeClaim"):
        wanted["spec"] = spec  # what runs cannot be given another form
    if obj["kind"] == "PersistentVolumeClaim":
        bound = {key: value for key, value in _annotations(current).items() if key in BINDING}
        wanted["metadata"]["annotations"] = {**_annotations(obj), **bound}
    if "status" in current:
        wanted["status"] = current["status"]
    return wanted


def _annotations(obj: Object) -> Object:
    return obj["metadata"].get("annotations") or {}


def _same(wanted: Object, current: Object) -> bool:
    def text(obj: Object) -> str:
        return json.dumps(cleaned({**obj, "apiVersion": "", "kind": wanted["kind"]}), sort_keys=True)

    return text(wanted) == text(current)
