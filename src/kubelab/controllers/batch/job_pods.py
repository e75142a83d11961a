"""The pods of a Job: what a new one looks like, which indexes lack one, how long to wait after failures.

In: Jobs and pods as plain dicts. Out: facts and new objects; pure functions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from kubelab.controllers import objects
from kubelab.controllers.batch import job_indexes, job_policies
from kubelab.controllers.batch.job_tracking import FINALIZER
from kubelab.controllers.objects import Object

FAILURES = "batch.kubernetes.io/job-index-failure-count"
INDEX_VARIABLE = "JOB_COMPLETION_INDEX"


def of_index(pods: Iterable[Object], index: int) -> list[Object]:
    return [pod for pod in pods if job_indexes.index_of(pod) == index]


def free_indexes(job: Object, pods: Sequence[Object], over: Collection[int]) -> list[int]:
    """Indexes that are not over and have no pod that runs or is ending."""
    taken = {job_indexes.index_of(pod) for pod in pods if not objects.is_finished(pod)}
    return [index for index in range(job["spec"].get("completions", 1)) if index not in taken and index not in over]


def failures_of(pods: Iterable[Object]) -> int:
    """How often an index has failed, from what its failed pods say."""
    counts = [int(objects.annotations_of(pod).get(FAILURES, "0")) + 1 for pod in pods if _failed(pod)]
    return max(counts, default=0)


def failed_indexes(job: Object, pods: Sequence[Object]) -> set[int]:
    """Indexes whose own back-off limit is used up, or that a rule fails."""
    limit, found = job["spec"]["backoffLimitPerIndex"], set()
    for pod in pods:
        index = job_indexes.index_of(pod)
        if index is not None and _failed(pod):
            gave_up = job_policies.failure_of(job, pod).action == "FailIndex"
            if gave_up or failures_of(of_index(pods, index)) > limit:
                found.add(index)
    return found


def _failed(pod: Object) -> bool:
    return bool((pod.get("status") or {}).get("phase") == "Failed")


def patience(pods: Iterable[Object], now: datetime, first: float) -> float:
    """Seconds until the next pod may come: failures since the last success make it wait ever longer."""
    ends = sorted((ended, _failed(pod)) for pod in pods if (ended := _ended(pod)) is not None)
    failures = 0
    for _, failed in reversed(ends):
        if not failed:
            break
        failures += 1
    if not failures:
        return 0.0
    return job_policies.backoff(failures, first) - (now - ends[-1][0]).total_seconds()


def _ended(pod: Object) -> datetime | None:
    """When the pod's last container ended."""
    if not objects.is_finished(pod):
        return None
    times = [
        objects.parse_time(ended.get("finishedAt"))
        for entry in (pod.get("status") or {}).get("containerStatuses") or ()
        if (ended := (entry.get("state") or {}).get("terminated")) is not None
    ]
    known = [moment for moment in times if moment is not None]
    return max(known, default=objects.parse_time(pod["metadata"].get("creationTimestamp")))


def pod_for(job: Object, index: int | None, pods: Sequence[Object]) -> Object:
    """A new pod, counted by its finalizer; `index` None: the Job is not indexed."""
    name = job["metadata"]["name"]
    prefix = f"{name}-" if index is None else f"{name}-{index}-"
    labels = {} if index is None else {job_indexes.ANNOTATION: str(index)}
    pod = objects.pod_from_template(job["spec"]["template"], owner=job, prefix=prefix, labels=labels)
    pod["metadata"]["finalizers"] = [FINALIZER]
    if index is None:
        return pod
    annotations = pod["metadata"].setdefault("annotations", {})
    annotations[job_indexes.ANNOTATION] = str(index)
    if job["spec"].get("backoffLimitPerIndex") is not None:
        annotations[FAILURES] = str(failures_of(of_index(pods, index)))
    pod["spec"].setdefault("hostname", f"{name}-{index}")
    path = f"metadata.labels['{job_indexes.ANNOTATION}']"
    variable = {"name": INDEX_VARIABLE, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
    for kind in ("initContainers", "containers"):
        for container in pod["spec"].get(kind) or ():
            if not any(entry["name"] == INDEX_VARIABLE for entry in container.get("env") or ()):
                container["env"] = [*(container.get("env") or ()), variable]
    return pod
