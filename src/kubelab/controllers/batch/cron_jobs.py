"""CronJobs: a Job each time their schedule says so.

In: CronJobs and their Jobs. Out: Jobs created, replaced and forgotten; the status. The next moment is a timer; nothing
polls. Moments that passed while nobody looked are made up for by one Job, the latest.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from kubelab import timestamps
from kubelab.apiserver.errors import AlreadyExists, ApiError, NotFound
from kubelab.apiserver.schedules import Schedule, parse
from kubelab.controllers import objects
from kubelab.controllers.batch import jobs
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.objects import Object

RESOURCE = "cronjobs.batch"
SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
MANY = 100
"""More missed moments than this are told: a wrong clock or a schedule that was suspended for long."""


def reference(job: Object) -> Object:
    metadata = job["metadata"]
    return {
        "kind": "Job",
        "apiVersion": "batch/v1",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "resourceVersion": metadata["resourceVersion"],
    }


def job_for(cron_job: Object, due: datetime, schedule: Schedule) -> Object:
    template = cron_job["spec"]["jobTemplate"]
    metadata = template.get("metadata") or {}
    moment = due.astimezone(schedule.zone).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{cron_job['metadata']['name']}-{int(due.timestamp()) // 60}",
            "namespace": cron_job["metadata"]["namespace"],
            "labels": dict(metadata.get("labels") or {}),
            "annotations": {**(metadata.get("annotations") or {}), SCHEDULED: moment},
            "ownerReferences": [objects.owner_reference(cron_job)],
        },
        "spec": copy.deepcopy(template["spec"]),
    }


class CronJobController(Controller):
    name = "cronjob-controller"

    def watches(self) -> Mapping[str, Mapper]:
        return {RESOURCE: objects.own_key, jobs.RESOURCE: lambda job: objects.controlled_by("CronJob", job)}

    async def reconcile(self, key: Key) -> float | None:
        namespace, name = key
        cron_job = self.store.peek(RESOURCE, name, namespace=namespace)
        if cron_job is None or objects.is_deleting(cron_job):
            return None
        mine = self._jobs(cron_job)
        status = await self._account(cron_job, mine)
        await self._forget(cron_job, mine)
        wait = None
        if not cron_job["spec"].get("suspend"):
            try:
                schedule = parse(cron_job["spec"]["schedule"], cron_job["spec"].get("timeZone"))
            except ValueError as error:  # validation let it pass in an earlier version
                await self.event(cron_job, "UnparseableSchedule", f"unparseable schedule: {error}", warning=True)
            else:
                wait = await self._start(cron_job, status, schedule)
        await self.write_status(cron_job, status)
        return wait

    def _jobs(self, cron_job: Object) -> list[Object]:
        namespace, uid = cron_job["metadata"]["namespace"], objects.uid_of(cron_job)
        present = self.store.peek_all(jobs.RESOURCE, namespace=namespace)
        return [job for job in present if (objects.controller_of(job) or {}).get("uid") == uid]

    async def _account(self, cron_job: Object, mine: Sequence[Object]) -> Object:
        """The status with the Jobs that run; ends and unexpected Jobs are told."""
        status = dict(cron_job.get("status") or {})
        known = {entry["uid"]: entry for entry in status.get("active") or ()}
        active, present = [], {objects.uid_of(job): job for job in mine}
        for uid, job in present.items():
            name = job["metadata"]["name"]
            if not jobs.finished(job):
                if uid not in known:
                    text = f"Saw a job that the controller did not create or forgot: {name}"
                    await self.event(cron_job, "UnexpectedJob", text, warning=True)
                active.append(known.get(uid, reference(job)))
                continue
            if uid in known:
                kind = "Complete" if jobs.is_true(job, "Complete") else "Failed"
                await self.event(cron_job, "SawCompletedJob", f"Saw completed job: {name}, condition: {kind}")
            ended = (job.get("status") or {}).get("completionTime")
            if ended and ended > status.get("lastSuccessfulTime", ""):
                status["lastSuccessfulTime"] = ended
        for uid, entry in known.items():
            if uid not in present:
                await self.event(cron_job, "MissingJob", f"Active job went missing: {entry['name']}")
        status.pop("active", None)
        if active:
            status["active"] = active
        return status

    async def _forget(self, cron_job: Object, mine: Sequence[Object]) -> None:
        for kind, field, default in (
            ("Complete", "successfulJobsHistoryLimit", 3),
            ("Failed", "failedJobsHistoryLimit", 1),
        ):
            limit = cron_job["spec"].get(field, default)
            ended = sorted(
                (job for job in mine if jobs.is_true(job, kind) and not objects.is_deleting(job)),
                key=lambda job: (job["status"].get("startTime", ""), job["metadata"]["name"]),
            )
            for job in ended[: max(0, len(ended) - limit)]:
                await self._delete(cron_job, job)

    async def _delete(self, cron_job: Object, job: Object) -> None:
        namespace, name = objects.key_of(job)
        try:
            await self.store.delete(
                jobs.RESOURCE, name, namespace=namespace, propagation="Background", uid=objects.uid_of(job)
            )
        except NotFound:
            return
        await self.event(cron_job, "SuccessfulDelete", f"Deleted job {name}")

    # ---- what is due ------------------------------------------------------------------------------------------------

    async def _start(self, cron_job: Object, status: Object, schedule: Schedule) -> float | None:
        """Start what is due, into `status`; seconds until the next moment."""
        now, spec = self.now(), cron_job["spec"]
        since = objects.parse_time(status.get("lastScheduleTime")) or objects.parse_time(
            cron_job["metadata"]["creationTimestamp"]
        )
        limit = spec.get("startingDeadlineSeconds")
        if since is None or (limit is not None and since < now - timedelta(seconds=limit)):
            since = now - timedelta(seconds=limit or 0)
        due, count = schedule.last(since, now)
        if count > MANY:
            text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
            await self.event(cron_job, "TooManyMissedTimes", text, warning=True)
        if due is not None:
            await self._run(cron_job, status, schedule, due)
        upcoming = next(schedule.after(max(now, due or now)), None)
        return None if upcoming is None else max(0.05, (upcoming - now).total_seconds() + 0.05)

    async def _run(self, cron_job: Object, status: Object, schedule: Schedule, due: datetime) -> None:
        spec, active = cron_job["spec"], status.get("active") or []
        policy = spec.get("concurrencyPolicy", "Allow")
        if policy == "Forbid" and active:
            text = "Not starting job because prior execution is running and concurrency policy is Forbid"
            await self.event(cron_job, "JobAlreadyActive", text)
            return
        if policy == "Replace":
            for entry in active:
                old = self.store.peek(jobs.RESOURCE, entry["name"], namespace=entry["namespace"])
                if old is not None and objects.uid_of(old) == entry["uid"]:
                    await self._delete(cron_job, old)
            active = []
        body = job_for(cron_job, due, schedule)
        try:
            created = await self.store.create(jobs.RESOURCE, body, namespace=body["metadata"]["namespace"])
        except AlreadyExists:
            status["lastScheduleTime"] = timestamps.seconds(due)
            return  # made before this status was written
        except ApiError as error:
            await self.event(cron_job, "FailedCreate", f"Error creating job: {error}", warning=True)
            raise
        await self.event(cron_job, "SuccessfulCreate", f"Created job {created['metadata']['name']}")
        status["active"] = [*active, reference(created)]
        status["lastScheduleTime"] = timestamps.seconds(due)
