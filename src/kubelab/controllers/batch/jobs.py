"""Jobs: pods until enough of them have succeeded.

In: Jobs and their pods. Out: pods created and deleted, their ends counted (`job_tracking`), the status with its
conditions; finished Jobs deleted when their time to live ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kubelab import timestamps
from kubelab.apiserver.errors import ApiError, NotFound
from kubelab.apiserver.store import Store
from kubelab.controllers import adoption, objects
from kubelab.controllers.batch import job_indexes, job_pods, job_policies, job_tracking
from kubelab.controllers.batch.job_policies import End
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.index import PodIndex
from kubelab.controllers.objects import Object

RESOURCE = "jobs.batch"
MANAGER = "kubernetes.io/job-controller"


@dataclass
class Round:
    """One look at a Job: what was found, and what its status will be."""

    job: Object
    pods: Sequence[Object]
    status: Object
    waits: list[float] = field(default_factory=list)

    @property
    def spec(self) -> Object:
        spec: Object = self.job["spec"]
        return spec

    @property
    def active(self) -> list[Object]:
        return [pod for pod in self.pods if objects.is_active(pod)]

    @property
    def terminating(self) -> list[Object]:
        return [pod for pod in self.pods if objects.is_deleting(pod) and not objects.is_finished(pod)]

    @property
    def indexed(self) -> bool:
        return bool(self.spec.get("completionMode") == "Indexed")


def is_true(obj: Object, kind: str) -> bool:
    return (objects.condition(obj, kind) or {}).get("status") == "True"


def finished(job: Object) -> bool:
    return is_true(job, "Complete") or is_true(job, "Failed")


class JobController(Controller):
    name = "job-controller"

    def __init__(self, store: Store, *, pods: PodIndex, now: Callable[[], datetime], first_backoff: float) -> None:
        """`first_backoff`: seconds between the first failure of a pod and its successor."""
        super().__init__(store, pods=pods, now=now)
        self.first_backoff = first_backoff

    def watches(self) -> Mapping[str, Mapper]:
        return {RESOURCE: objects.own_key, "pods": self._of_pod}

    def _of_pod(self, pod: Object) -> Iterable[Key]:
        if objects.controller_of(pod) is not None:
            return objects.controlled_by("Job", pod)
        return ()

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        job = self.store.peek(RESOURCE, name, namespace=namespace)
        if job is None or objects.is_deleting(job):
            await self._let_go(namespace, name, job)
            return None
        if job["spec"].get("managedBy", MANAGER) != MANAGER:
            return None
        if finished(job):
            await self._let_go(namespace, name, job)
            return await self._expire(job)
        pods = await adoption.claim(self, job)
        status = await job_tracking.count(self, job, pods)
        found = Round(job, self.pods.of(job), status)
        failure: ApiError | None = None
        try:
            await self._work_on(found)
        except ApiError as error:
            failure = error
        await self._report(found)
        if failure is not None:
            raise failure
        return min(found.waits, default=None)

    async def _let_go(self, namespace: str, name: str, job: Object | None) -> None:
        """Nobody counts these pods any more."""
        pods = self.pods.of(job) if job is not None else self.store.peek_all("pods", namespace=namespace)
        for pod in pods:
            owner = objects.controller_of(pod) or {}
            known = self.store.peek(RESOURCE, name, namespace=namespace)
            stray = known is None or job is not None or objects.uid_of(known) != owner.get("uid")
            if job_tracking.tracked(pod) and (owner.get("kind"), owner.get("name")) == ("Job", name) and stray:
                await job_tracking.release(self, pod)

    async def _expire(self, job: Object) -> float | None:
        """Delete a finished Job when its time to live is over; seconds until then."""
        limit = job["spec"].get("ttlSecondsAfterFinished")
        if limit is None:
            return None
        end = next(entry for entry in job["status"]["conditions"] if entry["type"] in ("Complete", "Failed")
                   and entry["status"] == "True")  # fmt: skip
        since = objects.parse_time(end.get("lastTransitionTime")) or self.now()
        left = (since + timedelta(seconds=limit) - self.now()).total_seconds()
        if left > 0:
            return left
        namespace, name = objects.key_of(job)
        await self.store.delete(RESOURCE, name, namespace=namespace, propagation="Foreground", uid=objects.uid_of(job))
        return None

    # ---- the Job's way ----------------------------------------------------------------------------------------------

    async def _work_on(self, found: Round) -> None:
        suspended = bool(found.spec.get("suspend"))
        await self._suspend(found, suspended)
        end = self._end(found)
        if end is not None:
            await self._finish(found, end)
        elif suspended:
            await self._delete(found.job, found.active, counted=False)
        else:
            await self._scale(found)

    async def _suspend(self, found: Round, suspended: bool) -> None:
        """Condition Suspended and startTime, which starts anew with a Job that is resumed."""
        was = is_true(found.job, "Suspended")
        if suspended and not was:
            self._condition(found, "Suspended", "True", "JobSuspended", "Job suspended")
            await self.event(found.job, "Suspended", "Job suspended")
            found.status.pop("startTime", None)
        elif not suspended and was:
            self._condition(found, "Suspended", "False", "JobResumed", "Job resumed")
            await self.event(found.job, "Resumed", "Job resumed")
        if not suspended:
            found.status.setdefault("startTime", timestamps.seconds(self.now()))

    def _condition(self, found: Round, kind: str, status: str, reason: str, message: str) -> None:
        now = timestamps.seconds(self.now())
        new = {"type": kind, "status": status, "reason": reason, "message": message, "lastProbeTime": now}
        found.status["conditions"] = objects.with_condition(found.status.get("conditions") or (), new, self.now())

    def _end(self, found: Round) -> End | None:
        """Whether the Job is over, decided once: a decision made earlier stands."""
        for kind, success in (("FailureTarget", False), ("SuccessCriteriaMet", True)):
            if is_true(found.job, kind):
                entry = objects.condition(found.job, kind) or {}
                return End(success, entry.get("reason", ""), entry.get("message", ""))
        return self._failed(found) or self._succeeded(found)

    def _failed(self, found: Round) -> End | None:
        spec, status = found.spec, found.status
        for pod in found.pods:
            if (pod.get("status") or {}).get("phase") == "Failed":
                verdict = job_policies.failure_of(found.job, pod)
                if verdict.action == "FailJob":
                    return End(False, "PodFailurePolicy", verdict.why)
        limit = spec.get("backoffLimit", 6)
        restarting = found.spec["template"]["spec"].get("restartPolicy") == "OnFailure"
        restarts = job_policies.restarts(found.active) if restarting else 0
        if status.get("failed", 0) > limit or (restarting and restarts and restarts >= max(limit, 1)):
            return End(False, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        deadline, started = spec.get("activeDeadlineSeconds"), objects.parse_time(status.get("startTime"))
        if deadline is not None and started is not None and not spec.get("suspend"):
            left = deadline - (self.now() - started).total_seconds()
            if left <= 0:
                return End(False, "DeadlineExceeded", "Job was active longer than specified deadline")
            found.waits.append(left)
        return self._failed_indexes(found)

    @staticmethod
    def _failed_indexes(found: Round) -> End | None:
        """Indexes that failed for good, where each has a back-off limit of its own."""
        if found.spec.get("backoffLimitPerIndex") is None:
            return None
        failed = job_pods.failed_indexes(found.job, found.pods) | job_indexes.read(found.status.get("failedIndexes"))
        found.status["failedIndexes"] = job_indexes.write(failed)
        most = found.spec.get("maxFailedIndexes")
        if most is not None and len(failed) > most:
            text = "Job has exceeded the specified maximal number of failed indexes"
            return End(False, "MaxFailedIndexesExceeded", text)
        done = job_indexes.read(found.status.get("completedIndexes"))
        if failed and len(failed | done) >= found.spec.get("completions", 1):
            return End(False, "FailedIndexes", "Job has failed indexes")
        return None

    @staticmethod
    def _succeeded(found: Round) -> End | None:
        spec, succeeded = found.spec, found.status.get("succeeded", 0)
        done = job_indexes.read(found.status.get("completedIndexes"))
        if found.indexed and (why := job_policies.early_success(found.job, done)):
            return End(True, "SuccessPolicy", why)
        completions = spec.get("completions")
        if completions is None:
            over = succeeded > 0 and not found.active and not found.terminating
        else:
            over = succeeded >= completions
        return End(True, "CompletionsReached", "Reached expected number of succeeded pods") if over else None

    async def _finish(self, found: Round, end: End) -> None:
        """First what will be, then, when no pod is left, what is."""
        interim = "SuccessCriteriaMet" if end.success else "FailureTarget"
        self._condition(found, interim, "True", end.reason, end.message)
        await self._delete(found.job, found.active)
        left = [pod for pod in self.pods.of(found.job) if not objects.is_finished(pod)]
        uncounted = any(job_tracking.tracked(pod) for pod in self.pods.of(found.job))
        if left or uncounted:
            return
        self._condition(found, "Complete" if end.success else "Failed", "True", end.reason, end.message)
        if end.success:
            found.status["completionTime"] = timestamps.seconds(self.now())
            await self.event(found.job, "Completed", "Job completed")
        else:
            await self.event(found.job, end.reason, end.message, warning=True)

    # ---- pods -------------------------------------------------------------------------------------------------------

    async def _scale(self, found: Round) -> None:
        active, spec = found.active, found.spec
        holding = len(active)
        if spec.get("podReplacementPolicy") == "Failed" or spec.get("podFailurePolicy"):
            holding += len(found.terminating)
        parallel, completions = spec.get("parallelism", 1), spec.get("completions")
        succeeded = found.status.get("succeeded", 0)
        if completions is None:
            wanted = holding if succeeded else parallel
        else:
            wanted = min(parallel, max(0, completions - succeeded))
        if len(active) > wanted:
            await self._delete(
                found.job, sorted(active, key=objects.deletion_rank)[: len(active) - wanted], counted=False
            )
        elif wanted > holding:
            await self._create(found, wanted - holding)

    async def _create(self, found: Round, missing: int) -> None:
        left = job_pods.patience(found.pods, self.now(), self.first_backoff)
        if left > 0 and found.spec.get("backoffLimitPerIndex") is None:
            found.waits.append(left)
            return
        indexes: Sequence[int | None] = [None] * missing
        if found.indexed:
            gone = job_indexes.read(found.status.get("failedIndexes"))
            done = job_indexes.read(found.status.get("completedIndexes"))
            free = job_pods.free_indexes(found.job, found.pods, done | gone)
            ready = []
            for free_index in free:
                wait = job_pods.patience(job_pods.of_index(found.pods, free_index), self.now(), self.first_backoff)
                if wait > 0:
                    found.waits.append(wait)
                else:
                    ready.append(free_index)
            indexes = ready[:missing]
        namespace = found.job["metadata"]["namespace"]
        for index in indexes:
            pod = job_pods.pod_for(found.job, index, found.pods)
            try:
                created = await self.store.create("pods", pod, namespace=namespace)
            except ApiError as error:
                await self.event(found.job, "FailedCreate", f"Error creating: {error}", warning=True)
                raise
            await self.event(found.job, "SuccessfulCreate", f"Created pod: {created['metadata']['name']}")

    async def _delete(self, job: Object, pods: Iterable[Object], *, counted: bool = True) -> None:
        """`counted` False: that these pods go is no failure."""
        for pod in pods:
            if not counted:
                await job_tracking.release(self, pod)
            namespace, name = objects.key_of(pod)
            try:
                await self.store.delete("pods", name, namespace=namespace, uid=objects.uid_of(pod))
            except NotFound:
                continue
            await self.event(job, "SuccessfulDelete", f"Deleted pod: {name}")

    async def _report(self, found: Round) -> None:
        pods, status = self.pods.of(found.job), found.status
        active = [pod for pod in pods if objects.is_active(pod)]
        status.pop("active", None)
        if active:
            status["active"] = len(active)
        status["ready"] = sum(objects.is_ready(pod) for pod in active)
        status["terminating"] = sum(objects.is_deleting(pod) and not objects.is_finished(pod) for pod in pods)
        status.setdefault("uncountedTerminatedPods", {})
        await self.write_status(found.job, status)
