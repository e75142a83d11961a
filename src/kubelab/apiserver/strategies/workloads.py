"""Deployments, ReplicaSets, DaemonSets, StatefulSets, ReplicationControllers, Jobs: defaults, selectors, templates."""

from typing import Any

from kubelab.apiserver import selectors
from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies.base import Object
from kubelab.apiserver.strategies.common import (
    NamedStrategy,
    invalid_value,
    label_causes,
    required,
    selector_causes,
    unsupported,
)
from kubelab.apiserver.strategies.pods import default_template, pod_spec_causes
from kubelab.apiserver.strategies.storage import default_claim_spec

_ROLLING: dict[str, Any] = {"maxUnavailable": "25%", "maxSurge": "25%"}


class WorkloadStrategy(NamedStrategy):
    """What all workloads share: a selector that never changes and matches the labels of the template."""

    selector_required = True

    def default(self, obj: Object) -> None:
        spec = obj.get("spec")
        if isinstance(spec, dict):
            self.default_spec(spec)
            default_template(spec)

    def default_spec(self, spec: Object) -> None:
        spec.setdefault("replicas", 1)

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return [*causes, required("spec")]
        if (spec.get("replicas") or 0) < 0:
            causes.append(invalid_value("spec.replicas", spec["replicas"], "must be greater than or equal to 0"))
        causes += self._template_causes(spec)
        if self.selector_required:
            causes += self._selector_causes(spec)
            if old is not None and spec.get("selector") != old["spec"].get("selector"):
                causes.append(invalid_value("spec.selector", spec.get("selector"), "field is immutable"))
        return causes

    def _template_causes(self, spec: Object) -> list[Cause]:
        pod = (spec.get("template") or {}).get("spec")
        if not isinstance(pod, dict):
            return [required("spec.template.spec")]
        causes = pod_spec_causes(pod, "spec.template.spec", claims=self.claims_of(spec))
        labels = (spec["template"].get("metadata") or {}).get("labels")
        causes += label_causes(labels, "spec.template.metadata.labels")
        if pod.get("restartPolicy") != "Always":
            causes.append(unsupported("spec.template.spec.restartPolicy", pod.get("restartPolicy"), ("Always",)))
        return causes

    @staticmethod
    def claims_of(spec: Object) -> set[str]:
        """Volumes that pods get besides those of the template."""
        return set()

    def _selector_causes(self, spec: Object) -> list[Cause]:
        selector = spec.get("selector")
        if not selector or not (selector.get("matchLabels") or selector.get("matchExpressions")):
            return [invalid_value("spec.selector", selector or {}, "empty selector is invalid for this workload")]
        causes = list(selector_causes(selector, "spec.selector"))
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        parsed = None if causes else selectors.from_spec(selector)
        if parsed is not None and not parsed.matches(labels):
            causes.append(
                invalid_value("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
            )
        return causes


class DeploymentStrategy(WorkloadStrategy):
    def default_spec(self, spec: Object) -> None:
        super().default_spec(spec)
        spec.setdefault("revisionHistoryLimit", 10)
        spec.setdefault("progressDeadlineSeconds", 600)
        strategy = spec.setdefault("strategy", {})
        strategy.setdefault("type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            strategy["rollingUpdate"] = {**_ROLLING, **(strategy.get("rollingUpdate") or {})}

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        strategy = (obj.get("spec") or {}).get("strategy") or {}
        if strategy.get("type") not in ("Recreate", "RollingUpdate"):
            causes.append(unsupported("spec.strategy.type", strategy.get("type"), ("Recreate", "RollingUpdate")))
        elif strategy["type"] == "Recreate" and strategy.get("rollingUpdate"):
            why = "Forbidden: may not be specified when strategy `type` is 'Recreate'"
            causes.append(Cause("spec.strategy.rollingUpdate", "FieldValueForbidden", why))
        return causes

    def spec_changed(self, obj: Object, old: Object) -> bool:
        annotations = obj["metadata"].get("annotations") != old["metadata"].get("annotations")
        return super().spec_changed(obj, old) or annotations


class DaemonSetStrategy(WorkloadStrategy):
    def default_spec(self, spec: Object) -> None:
        spec.setdefault("revisionHistoryLimit", 10)
        strategy = spec.setdefault("updateStrategy", {})
        strategy.setdefault("type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            strategy["rollingUpdate"] = {"maxUnavailable": 1, "maxSurge": 0, **(strategy.get("rollingUpdate") or {})}

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        strategy, field = (obj.get("spec") or {}).get("updateStrategy") or {}, "spec.updateStrategy"
        if strategy.get("type") not in ("OnDelete", "RollingUpdate"):
            return [*causes, unsupported(f"{field}.type", strategy.get("type"), ("OnDelete", "RollingUpdate"))]
        rolling = strategy.get("rollingUpdate") or {}
        missing, surge = (rolling.get(name) not in (0, "0", "0%", None) for name in ("maxUnavailable", "maxSurge"))
        if strategy["type"] == "RollingUpdate" and missing and surge:
            why = "may not be set when maxUnavailable is non-zero"
            causes.append(invalid_value(f"{field}.rollingUpdate.maxSurge", rolling["maxSurge"], why))
        elif strategy["type"] == "RollingUpdate" and not missing and not surge:
            causes.append(required(f"{field}.rollingUpdate.maxUnavailable", "cannot be 0 when maxSurge is 0"))
        return causes


class StatefulSetStrategy(WorkloadStrategy):
    def default_spec(self, spec: Object) -> None:
        super().default_spec(spec)
        spec.setdefault("revisionHistoryLimit", 10)
        spec.setdefault("podManagementPolicy", "OrderedReady")
        strategy = spec.setdefault("updateStrategy", {})
        strategy.setdefault("type", "RollingUpdate")
        if strategy["type"] == "RollingUpdate":
            strategy["rollingUpdate"] = {"partition": 0, **(strategy.get("rollingUpdate") or {})}
        retention = {"whenDeleted": "Retain", "whenScaled": "Retain"}
        spec["persistentVolumeClaimRetentionPolicy"] = {
            **retention,
            **(spec.get("persistentVolumeClaimRetentionPolicy") or {}),
        }
        for claim in spec.get("volumeClaimTemplates") or ():
            claim.update(apiVersion="v1", kind="PersistentVolumeClaim", status={"phase": "Pending"})
            default_claim_spec(claim.get("spec"))

    @staticmethod
    def claims_of(spec: Object) -> set[str]:
        return {(claim.get("metadata") or {}).get("name", "") for claim in spec.get("volumeClaimTemplates") or ()}

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        if old is not None and _fixed(obj) != _fixed(old):
            why = (
                "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
                "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
                "'minReadySeconds' are forbidden"
            )
            causes = [cause for cause in causes if cause.field != "spec.selector"]
            causes.append(Cause("spec", "FieldValueForbidden", why))
        strategy, field = (obj.get("spec") or {}).get("updateStrategy") or {}, "spec.updateStrategy"
        if strategy.get("type") not in ("OnDelete", "RollingUpdate"):
            causes.append(unsupported(f"{field}.type", strategy.get("type"), ("OnDelete", "RollingUpdate")))
        elif (strategy.get("rollingUpdate") or {}).get("maxUnavailable") in (0, "0", "0%"):
            causes.append(invalid_value(f"{field}.rollingUpdate.maxUnavailable", 0, "cannot be 0"))
        return causes


_MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


def _fixed(stateful_set: Object) -> Object:
    """What no update of a StatefulSet may change."""
    return {name: value for name, value in (stateful_set.get("spec") or {}).items() if name not in _MUTABLE}


class ReplicationControllerStrategy(WorkloadStrategy):
    selector_required = False

    def default_spec(self, spec: Object) -> None:
        super().default_spec(spec)
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
        if not spec.get("selector") and labels:
            spec["selector"] = dict(labels)
