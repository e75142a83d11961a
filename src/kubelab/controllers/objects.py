"""What controllers read from and write into objects: keys, owners, conditions, pods' states.

In: objects as plain dicts, never changed. Out: facts, and new fragments.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from kubelab import timestamps

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
Object = dict[str, Any]
Key = tuple[str, str]


def key_of(obj: Object) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def own_key(obj: Object) -> Iterable[Key]:
    """Mapper: an object concerns itself."""
    return (key_of(obj),)


def uid_of(obj: Object) -> str:
    return str(obj["metadata"]["uid"])


def labels_of(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> Mapping[str, str]:
    return obj["metadata"].get("annotations") or {}


def is_deleting(obj: Object) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def owners_of(obj: Object) -> Sequence[Object]:
    return obj["metadata"].get("ownerReferences") or ()


def controller_of(obj: Object) -> Object | None:
    return next((owner for owner in owners_of(obj) if owner.get("controller")), None)


def owner_reference(owner: Object) -> Object:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controlled_by(kind: str, obj: Object) -> Iterable[Key]:
    """Mapper: an object concerns its controller of this kind."""
    owner = controller_of(obj)
    if owner is not None and owner["kind"] == kind:
        yield obj["metadata"].get("namespace", ""), owner["name"]


def parse_time(text: str | None) -> datetime | None:
    return timestamps.parse(text) if text else None


def condition(obj: Object, kind: str) -> Object | None:
    conditions: Iterable[Object] = (obj.get("status") or {}).get("conditions") or ()
    return next((entry for entry in conditions if entry.get("type") == kind), None)


def with_condition(conditions: Sequence[Object], new: Object, now: datetime) -> list[Object]:
    """`conditions` with `new` in place of the one of its type; the transition time moves only with the status."""
    old = next((entry for entry in conditions if entry["type"] == new["type"]), None)
    moved = old is None or old.get("status") != new["status"]
    moment = timestamps.seconds(now)
    transition = moment if moved or old is None else old.get("lastTransitionTime", moment)
    entry = {**new, "lastTransitionTime": transition}
    if old is None:
        return [*conditions, entry]
    return [entry if candidate is old else candidate for candidate in conditions]


# ---- pods -----------------------------------------------------------------------------------------------------------


def is_finished(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Counts as a replica."""
    return not is_finished(pod) and not is_deleting(pod)


def is_ready(pod: Object) -> bool:
    found = condition(pod, "Ready")
    return found is not None and found.get("status") == "True"


def available_in(pod: Object, min_ready_seconds: int, now: datetime) -> float | None:
    """Seconds until a ready pod counts as available: 0 if it does, None if it is not ready."""
    found = condition(pod, "Ready")
    if found is None or found.get("status") != "True" or is_deleting(pod):
        return None
    since = parse_time(found.get("lastTransitionTime"))
    if min_ready_seconds <= 0 or since is None:
        return 0.0
    return max(0.0, min_ready_seconds - (now - since).total_seconds())


def deletion_rank(pod: Object) -> tuple[int, int, int, int, str]:
    """Sort key: whoever comes first is deleted first. Unscheduled, then pending, then not ready, then cheap, then
    young.
    """
    phase = (pod.get("status") or {}).get("phase", "Pending")
    cost = annotations_of(pod).get(DELETION_COST, "0")
    created = parse_time(pod["metadata"].get("creationTimestamp"))
    return (
        1 if (pod.get("spec") or {}).get("nodeName") else 0,
        0 if phase == "Pending" else 1,
        1 if is_ready(pod) else 0,
        int(cost) if cost.lstrip("-").isdecimal() else 0,
        # Younger first: invert by subtracting from a far time.
        f"{10**12 - int(created.timestamp()) if created else 0:014d}{pod['metadata']['name']}",
    )


def pod_from_template(template: Object, *, owner: Object, prefix: str, labels: Mapping[str, str]) -> Object:
    """A new pod of a controller."""
    metadata = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": prefix,
            "namespace": owner["metadata"]["namespace"],
            "labels": {**(metadata.get("labels") or {}), **labels},
            **({"annotations": dict(metadata["annotations"])} if metadata.get("annotations") else {}),
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": copy.deepcopy(template.get("spec") or {}),
    }


def template_hash(template: Object) -> str:
    """Names a pod template by content; letters and digits that form no words."""
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    alphabet = "bcdfghjklmnpqrstvwxz2456789"
    number = int.from_bytes(digest[:8], "big")
    letters = []
    for _ in range(10):
        number, rest = divmod(number, len(alphabet))
        letters.append(alphabet[rest])
    return "".join(letters)


def share(value: int | str | None, total: int, *, default: int | str, up: bool) -> int:
    """An absolute number, or a percentage of `total` rounded up or down (IntOrString)."""
    chosen = default if value is None else value
    if isinstance(chosen, str) and chosen.endswith("%"):
        part = int(chosen[:-1]) * total / 100
        return math.ceil(part) if up else math.floor(part)
    return int(chosen)
