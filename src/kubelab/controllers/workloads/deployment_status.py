"""The status of a Deployment: counts and conditions, as functions of its ReplicaSets and of time.

In: a Deployment as it is stored, its ReplicaSets, the one of its present template. Out: the status, and the seconds
after which it changes by time alone. Source: Kubernetes documentation, "Deployments", Deployment status.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from kubelab import timestamps
from kubelab.controllers import objects
from kubelab.controllers.objects import Object
from kubelab.controllers.workloads import rollout

_Found = tuple[str, str, str]
_COUNTED = ("updatedReplicas", "replicas", "readyReplicas", "availableReplicas")


def status_of(
    deployment: Object, sets: Sequence[Object], new: Object | None, now: datetime
) -> tuple[Object, float | None]:
    """`new`: of `sets`, as it is stored now; None while a paused Deployment has none."""
    old = deployment.get("status") or {}
    status = _counts(deployment, sets, new)
    if old.get("collisionCount"):
        status["collisionCount"] = old["collisionCount"]
    conditions = objects.with_condition(old.get("conditions") or (), _available(deployment, status, now), now)
    progressing, wait = _progressing(deployment, status, new, now)
    conditions = objects.with_condition(conditions, progressing, now)
    failures = [entry for one in sets if (entry := objects.condition(one, "ReplicaFailure"))][:1]
    status["conditions"] = [*(entry for entry in conditions if entry["type"] != "ReplicaFailure"), *failures]
    return status, wait


def _counts(deployment: Object, sets: Sequence[Object], new: Object | None) -> Object:
    total = {
        field: sum((entry.get("status") or {}).get(field, 0) for entry in sets)
        for field in ("replicas", "readyReplicas", "availableReplicas")
    }
    counts = {
        **total,
        "updatedReplicas": ((new or {}).get("status") or {}).get("replicas", 0),
        "unavailableReplicas": max(0, deployment["spec"].get("replicas", 1) - total["availableReplicas"]),
    }
    return {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "terminatingReplicas": sum((entry.get("status") or {}).get("terminatingReplicas", 0) for entry in sets),
        **{field: count for field, count in counts.items() if count},
    }


def _available(deployment: Object, status: Object, now: datetime) -> Object:
    spec = deployment["spec"]
    least = spec.get("replicas", 1) - rollout.budget_of(spec).unavailable
    if status.get("availableReplicas", 0) >= least:
        found = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        found = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    previous = objects.condition(deployment, "Available") or {}
    moved = previous.get("status") != found[0]
    return _condition("Available", found, timestamps.seconds(now) if moved else previous.get("lastUpdateTime"))


def _progressing(
    deployment: Object, status: Object, new: Object | None, now: datetime
) -> tuple[Object, float | None]:  # fmt: skip
    """The condition, and the seconds after which a standstill becomes a failure."""
    name = new["metadata"]["name"] if new else ""
    old, previous = deployment.get("status") or {}, objects.condition(deployment, "Progressing") or {}
    moved = any(status.get(field, 0) != old.get(field, 0) for field in _COUNTED) or (
        status["observedGeneration"] != old.get("observedGeneration")
    )
    if deployment["spec"].get("paused"):
        found, wait = ("Unknown", "DeploymentPaused", "Deployment is paused"), None
    elif rollout.complete(deployment["spec"], status):
        found = ("True", "NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.')
        wait = None
    else:
        found, wait = _pending(deployment, previous, moved, name, now)
    same = previous.get("reason") == found[1] and previous.get("message") == found[2]
    update = previous["lastUpdateTime"] if same and not (moved and wait) else timestamps.seconds(now)
    return _condition("Progressing", found, update), wait


def _pending(
    deployment: Object, previous: Object, moved: bool, name: str, now: datetime
) -> tuple[_Found, float | None]:  # fmt: skip
    """A rollout under way: progressing until nothing moved for the deadline."""
    deadline = timedelta(seconds=deployment["spec"].get("progressDeadlineSeconds", 600))
    since = objects.parse_time(previous.get("lastUpdateTime"))
    under_way = ("True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
    if moved or since is None or previous.get("reason") == "NewReplicaSetAvailable":
        return under_way, deadline.total_seconds()
    left = (since + deadline - now).total_seconds()
    if previous.get("reason") == "ProgressDeadlineExceeded" or left <= 0:
        late = f'ReplicaSet "{name}" has timed out progressing.'
        return ("False", "ProgressDeadlineExceeded", late), None
    return under_way, left


def _condition(kind: str, found: _Found, update: str | None) -> Object:
    return {"type": kind, "status": found[0], "reason": found[1], "message": found[2], "lastUpdateTime": update}
