"""What a Job's policies say about its pods: pod failure policy, success policy, back-off.

In: Jobs and pods as plain dicts. Out: verdicts; pure functions. Source: Kubernetes documentation, "Jobs".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from kubelab.controllers import objects
from kubelab.controllers.batch import job_indexes
from kubelab.controllers.objects import Object

Action = Literal["FailJob", "FailIndex", "Ignore", "Count"]


@dataclass(frozen=True)
class Verdict:
    """What a pod's failure means for its Job; `why` is the message of a rule that fails the Job."""

    action: Action
    why: str = ""


@dataclass(frozen=True)
class End:
    """How a Job ends: the condition's reason and message."""

    success: bool
    reason: str
    message: str


def failure_of(job: Object, pod: Object) -> Verdict:
    """The first rule of the Job's podFailurePolicy that matches the failed pod; without one it counts."""
    rules = (job["spec"].get("podFailurePolicy") or {}).get("rules") or ()
    for number, rule in enumerate(rules):
        subject = _match_exit(rule.get("onExitCodes"), pod) or _match_condition(rule.get("onPodConditions"), pod)
        if subject:
            return Verdict(rule["action"], f"{subject} matching {rule['action']} rule at index {number}")
    return Verdict("Count")


def _match_exit(requirement: Object | None, pod: Object) -> str:
    if not requirement:
        return ""
    path = "/".join(objects.key_of(pod))
    for name, code in _exits(pod):
        if code == 0 or requirement.get("containerName") not in (None, name):
            continue
        listed = code in (requirement.get("values") or ())
        if listed is (requirement.get("operator") == "In"):
            return f"Container {name} for pod {path} failed with exit code {code}"
    return ""


def _exits(pod: Object) -> Iterator[tuple[str, int]]:
    status = pod.get("status") or {}
    for kind in ("initContainerStatuses", "containerStatuses"):
        for entry in status.get(kind) or ():
            ended = (entry.get("state") or {}).get("terminated")
            if ended is not None:
                yield entry["name"], int(ended.get("exitCode", 0))


def _match_condition(patterns: Iterable[Object] | None, pod: Object) -> str:
    for pattern in patterns or ():
        found = objects.condition(pod, pattern["type"])
        if found is not None and found.get("status") == pattern.get("status", "True"):
            return f"Pod {'/'.join(objects.key_of(pod))} has condition {pattern['type']}"
    return ""


def early_success(job: Object, succeeded: set[int]) -> str:
    """The message of the first rule of the Job's successPolicy that holds; "": none does."""
    for number, rule in enumerate((job["spec"].get("successPolicy") or {}).get("rules") or ()):
        counted = succeeded & job_indexes.read(rule["succeededIndexes"]) if rule.get("succeededIndexes") else succeeded
        wanted = rule.get("succeededCount")
        enough = len(counted) >= wanted if wanted is not None else counted >= job_indexes.read(rule["succeededIndexes"])
        if enough:
            return f"Matched rules at index {number}"
    return ""


def restarts(pods: Iterable[Object]) -> int:
    """Restarts of the containers of pods that still run: they count towards the back-off limit too."""
    return sum(
        int(entry.get("restartCount", 0))
        for pod in pods
        for kind in ("initContainerStatuses", "containerStatuses")
        for entry in (pod.get("status") or {}).get(kind) or ()
    )


def backoff(failures: int, first: float) -> float:
    """Seconds between a failure and the next pod: `first`, doubled with each failure, at most ten minutes."""
    return min(first * 2.0 ** min(failures - 1, 16), 600.0) if failures > 0 else 0.0
