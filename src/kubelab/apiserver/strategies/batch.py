"""Jobs and CronJobs: defaults, the labels that tie pods to their Job, schedules."""

from kubelab.apiserver import schedules
from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies.base import Object, Reader
from kubelab.apiserver.strategies.common import NamedStrategy, invalid_value, required, unsupported
from kubelab.apiserver.strategies.pods import default_template, pod_spec_causes
from kubelab.apiserver.strategies.workloads import WorkloadStrategy

_UNLIMITED = 2147483647
_PREFIX = "batch.kubernetes.io/"
_RESTARTS = ("OnFailure", "Never")
_CONCURRENCY = ("Allow", "Forbid", "Replace")
_LONGEST_NAME = 52
"""A CronJob's Jobs append eleven characters, and the name of a Job is a label."""


def default_job_spec(spec: Object) -> None:
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = spec["parallelism"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", _UNLIMITED if spec.get("backoffLimitPerIndex") is not None else 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("podReplacementPolicy", "Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed")
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        for pattern in rule.get("onPodConditions") or ():
            pattern.setdefault("status", "True")
    default_template(spec)


def job_spec_causes(spec: Object, path: str) -> list[Cause]:
    numbers = ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished")
    causes = [
        invalid_value(f"{path}.{field}", spec[field], "must be greater than or equal to 0")
        for field in numbers
        if (spec.get(field) or 0) < 0
    ]
    mode = spec.get("completionMode")
    if mode not in ("NonIndexed", "Indexed"):
        causes.append(unsupported(f"{path}.completionMode", mode, ("Indexed", "NonIndexed")))
    elif mode == "Indexed" and spec.get("completions") is None:
        causes.append(required(f"{path}.completions", "when completion mode is Indexed"))
    elif mode != "Indexed":
        causes += [
            Cause(f"{path}.{field}", "FieldValueInvalid", "Invalid value: requires indexed completion mode")
            for field in ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy")
            if spec.get(field) is not None
        ]
    pod = (spec.get("template") or {}).get("spec")
    if not isinstance(pod, dict):
        return [*causes, required(f"{path}.template.spec")]
    causes += pod_spec_causes(pod, f"{path}.template.spec")
    policy = pod.get("restartPolicy")
    if policy not in _RESTARTS:
        causes.append(
            Cause(
                f"{path}.template.spec.restartPolicy",
                "FieldValueRequired" if policy == "Always" else "FieldValueNotSupported",
                'Required value: valid values: "OnFailure", "Never"'
                if policy == "Always"
                else unsupported("", policy, _RESTARTS).message,
            )
        )
    if spec.get("podFailurePolicy") and policy == "OnFailure":
        why = 'only "Never" is supported when podFailurePolicy is specified'
        causes.append(invalid_value(f"{path}.template.spec.restartPolicy", policy, why))
    return causes


class JobStrategy(WorkloadStrategy):
    selector_required = False

    def default(self, obj: Object) -> None:
        if isinstance(obj.get("spec"), dict):
            default_job_spec(obj["spec"])

    def prepare_create(self, obj: Object, store: Reader) -> None:
        super().prepare_create(obj, store)
        spec, uid, name = obj.get("spec"), obj["metadata"]["uid"], obj["metadata"]["name"]
        if not isinstance(spec, dict) or not isinstance(spec.get("template"), dict) or spec.get("manualSelector"):
            return
        labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
        for prefix in ("", _PREFIX):  # the names without a prefix are the older ones
            labels |= {f"{prefix}controller-uid": uid, f"{prefix}job-name": name}
        spec["selector"] = {"matchLabels": {f"{_PREFIX}controller-uid": uid}}

    def prepare_update(self, obj: Object, old: Object, store: Reader) -> None:
        """Clients send back manifests without what was generated."""
        spec = obj.get("spec")
        if not isinstance(spec, dict) or spec.get("manualSelector"):
            return
        spec.setdefault("selector", old["spec"].get("selector"))
        kept = ((old["spec"]["template"].get("metadata") or {}).get("labels")) or {}
        generated = {name: value for name, value in kept.items() if name.endswith(("controller-uid", "job-name"))}
        labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
        for name, value in generated.items():
            labels.setdefault(name, value)

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = NamedStrategy.validate(self, obj, old)
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return [*causes, required("spec")]
        causes += job_spec_causes(spec, "spec")
        if old is not None:
            causes += [
                invalid_value(f"spec.{field}", spec.get(field), "field is immutable")
                for field in self._fixed(spec, old)
                if spec.get(field) != old["spec"].get(field)
            ]
        return causes

    @staticmethod
    def _fixed(spec: Object, old: Object) -> tuple[str, ...]:
        """A suspended Job that never started may still get another template, an indexed one another size."""
        fixed = ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "successPolicy"]
        waits = old["spec"].get("suspend") and not (old.get("status") or {}).get("startTime")
        if not waits:
            fixed.append("template")
        elastic = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
        if not elastic:
            fixed.append("completions")
        return tuple(fixed)


class CronJobStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return
        for field, value in (
            ("concurrencyPolicy", "Allow"),
            ("suspend", False),
            ("successfulJobsHistoryLimit", 3),
            ("failedJobsHistoryLimit", 1),
        ):
            spec.setdefault(field, value)
        job = (spec.get("jobTemplate") or {}).get("spec")
        if isinstance(job, dict):
            # A template gets its Job's defaults when the Job is made; what is sure now is the pods'.
            default_template(job)

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        spec, name = obj.get("spec"), obj["metadata"].get("name", "")
        if not isinstance(spec, dict):
            return [*causes, required("spec")]
        if len(name) > _LONGEST_NAME:
            causes.append(invalid_value("metadata.name", name, f"must be no more than {_LONGEST_NAME} characters"))
        causes += self._schedule_causes(spec)
        if spec.get("concurrencyPolicy") not in _CONCURRENCY:
            causes.append(unsupported("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), _CONCURRENCY))
        for field in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
            if (spec.get(field) or 0) < 0:
                causes.append(invalid_value(f"spec.{field}", spec[field], "must be greater than or equal to 0"))
        job = (spec.get("jobTemplate") or {}).get("spec")
        if isinstance(job, dict):
            causes += job_spec_causes({"completionMode": "NonIndexed", **job}, "spec.jobTemplate.spec")
        return causes

    @staticmethod
    def _schedule_causes(spec: Object) -> list[Cause]:
        schedule, zone = spec.get("schedule"), spec.get("timeZone")
        if not schedule:
            return [required("spec.schedule")]
        if "TZ=" in schedule:
            why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
            return [invalid_value("spec.schedule", schedule, why)]
        try:
            if zone is not None:
                schedules.time_zone(zone)
        except ValueError as error:
            return [invalid_value("spec.timeZone", zone, str(error))]
        try:
            schedules.parse(schedule)
        except ValueError as error:
            return [invalid_value("spec.schedule", schedule, str(error))]
        return []
