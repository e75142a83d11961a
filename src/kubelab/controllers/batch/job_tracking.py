"""The exact count of a Job's ended pods.

In: a Job and its pods. Out: the Job's counters. A pod bears a finalizer until it is counted. First its uid is written
among those that are not counted yet, then its finalizer goes, then its uid turns into a number: whoever dies in between
neither forgets a pod nor counts it twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from kubelab.apiserver.errors import NotFound
from kubelab.controllers import objects
from kubelab.controllers.batch import job_indexes, job_policies
from kubelab.controllers.controller import Controller
from kubelab.controllers.objects import Object

FINALIZER = "batch.kubernetes.io/job-tracking"


def tracked(pod: Object) -> bool:
    return FINALIZER in (pod["metadata"].get("finalizers") or ())


def outcome(job: Object, pod: Object) -> str:
    """`succeeded`, `failed`, or "" for a pod that has not ended. One that is being deleted has failed already, unless
    the Job replaces pods only once they have failed.
    """
    phase = (pod.get("status") or {}).get("phase")
    if phase in ("Succeeded", "Failed"):
        return "succeeded" if phase == "Succeeded" else "failed"
    patient = job["spec"].get("podReplacementPolicy") == "Failed" or job["spec"].get("podFailurePolicy")
    return "failed" if objects.is_deleting(pod) and not patient else ""


async def release(controller: Controller, pod: Object) -> None:
    """Take the finalizer off."""
    namespace, name = objects.key_of(pod)

    def without(old: Object) -> Object:
        kept = [entry for entry in old["metadata"].get("finalizers") or () if entry != FINALIZER]
        return {**old, "metadata": {**old["metadata"], "finalizers": kept}}

    current = controller.store.peek("pods", name, namespace=namespace)
    if current is None or objects.uid_of(current) != objects.uid_of(pod) or not tracked(current):
        return
    try:
        await controller.store.patch("pods", name, without, namespace=namespace)
    except NotFound:
        return


async def count(controller: Controller, job: Object, pods: Sequence[Object]) -> Object:
    """The Job's status with every ended pod counted. Writes the status and the pods."""
    status = dict(job.get("status") or {})
    waiting = {
        kind: list((status.get("uncountedTerminatedPods") or {}).get(kind) or ()) for kind in ("succeeded", "failed")
    }
    known = {*waiting["succeeded"], *waiting["failed"]}
    indexed = job["spec"].get("completionMode") == "Indexed"
    done = job_indexes.read(status.get("completedIndexes"))
    ended = [pod for pod in pods if tracked(pod) and outcome(job, pod)]
    fresh = False
    for pod in ended:
        uid, kind = objects.uid_of(pod), outcome(job, pod)
        if uid in known:
            continue
        fresh = True
        if kind == "succeeded" and indexed:
            index = job_indexes.index_of(pod)
            if index is not None and index < job["spec"].get("completions", 1):
                done.add(index)  # several pods of one index are one success
        elif kind == "succeeded" or job_policies.failure_of(job, pod).action != "Ignore":
            waiting[kind].append(uid)
    if not ended and not known:
        return status
    if fresh:
        status["uncountedTerminatedPods"] = {kind: uids for kind, uids in waiting.items() if uids}
        if indexed:
            status["completedIndexes"], status["succeeded"] = job_indexes.write(done), len(done)
        await controller.write_status(job, status)
    for pod in ended:
        await release(controller, pod)
    for kind, uids in waiting.items():
        if uids:
            status[kind] = status.get(kind, 0) + len(uids)
    status["uncountedTerminatedPods"] = {}
    return status
