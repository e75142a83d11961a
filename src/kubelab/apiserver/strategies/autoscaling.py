"""HorizontalPodAutoscalers: their defaults, and what they must say.

Source: Kubernetes API reference of autoscaling/v2.
"""

from collections.abc import Iterator
from typing import Any

from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies.base import Object
from kubelab.apiserver.strategies.common import NamedStrategy, invalid_value, required, unsupported
from kubelab.quantities import quantity

_UP = ({"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15})
_DOWN = ({"type": "Percent", "value": 100, "periodSeconds": 15},)
_SOURCES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_SELECT, _POLICIES = ("Disabled", "Max", "Min"), ("Percent", "Pods")
_TARGETS = ("Utilization", "Value", "AverageValue")
_LONGEST_WINDOW, _LONGEST_PERIOD = 3600, 1800
_NOT_BOTH = "Forbidden: may not set both a target raw value and a target utilization"
_EITHER = "must set either a target raw value or a target utilization"


class AutoscalerStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return
        spec.setdefault("minReplicas", 1)
        if not spec.get("metrics"):
            target = {"type": "Utilization", "averageUtilization": 80}
            spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
        behavior = spec.get("behavior")
        if isinstance(behavior, dict):
            for direction, policies in (("scaleUp", _UP), ("scaleDown", _DOWN)):
                rules = behavior.setdefault(direction, {})
                rules.setdefault("selectPolicy", "Max")
                if not rules.get("policies"):
                    rules["policies"] = [dict(p) for p in policies]
            behavior["scaleUp"].setdefault("stabilizationWindowSeconds", 0)

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return [*causes, required("spec")]
        low, high = spec.get("minReplicas", 1), spec.get("maxReplicas") or 0
        if low < 1:
            causes.append(invalid_value("spec.minReplicas", low, "must be greater than or equal to 1"))
        if high < 1:
            causes.append(invalid_value("spec.maxReplicas", high, "must be greater than 0"))
        elif high < low:
            causes.append(invalid_value("spec.maxReplicas", high, "must be greater than or equal to `minReplicas`"))
        if causes:
            return causes
        for index, metric in enumerate(spec.get("metrics") or ()):
            causes += _metric_causes(metric, f"spec.metrics[{index}]")
        for direction in ("scaleUp", "scaleDown"):
            causes += _rules_causes((spec.get("behavior") or {}).get(direction), f"spec.behavior.{direction}")
        return causes


def _metric_causes(metric: Object, path: str) -> Iterator[Cause]:
    kind = metric.get("type", "")
    if kind not in _SOURCES:
        yield unsupported(f"{path}.type", kind, tuple(_SOURCES))
        return
    for other, field in _SOURCES.items():
        if other == kind and not metric.get(field):
            yield required(f"{path}.{field}", "must populate information for the given metric source")
        elif other != kind and metric.get(field):
            why = "Forbidden: must populate the given metric source only"
            yield Cause(f"{path}.{field}", "FieldValueForbidden", why)
    source, where = metric.get(_SOURCES[kind]) or {}, f"{path}.{_SOURCES[kind]}"
    if source:
        yield from _target_causes(kind, source.get("target") or {}, f"{where}.target")


def _target_causes(kind: str, target: Object, path: str) -> Iterator[Cause]:
    if target.get("type") not in _TARGETS:
        why = "must be either Utilization, Value, or AverageValue"
        yield invalid_value(f"{path}.type", target.get("type", ""), why)
    for field in ("value", "averageValue"):
        if target.get(field) is not None and not _positive(target[field]):
            yield invalid_value(f"{path}.{field}", target[field], "must be positive")
    share, average = target.get("averageUtilization"), target.get("averageValue")
    if share is not None and share < 1:
        yield invalid_value(f"{path}.averageUtilization", share, "must be greater than 0")
    match kind:
        case "Resource" | "ContainerResource":
            if share is not None and average is not None:
                yield Cause(f"{path}.averageValue", "FieldValueForbidden", _NOT_BOTH)
            elif share is None and average is None:
                yield required(f"{path}.averageUtilization", _EITHER)
        case "Pods" if average is None:
            yield required(f"{path}.averageValue", "must specify a positive target averageValue")
        case "Object" | "External" if average is None and target.get("value") is None:
            yield required(f"{path}.averageValue", "must set either a target value or averageValue")


def _rules_causes(rules: Any, path: str) -> Iterator[Cause]:
    if not isinstance(rules, dict):
        return
    window = rules.get("stabilizationWindowSeconds", 0)
    if window < 0:
        yield invalid_value(f"{path}.stabilizationWindowSeconds", window, "must be greater than or equal to zero")
    elif window > _LONGEST_WINDOW:
        why = f"must be less than or equal to {_LONGEST_WINDOW}"
        yield invalid_value(f"{path}.stabilizationWindowSeconds", window, why)
    if rules.get("selectPolicy", "Max") not in _SELECT:
        yield unsupported(f"{path}.selectPolicy", rules["selectPolicy"], _SELECT)
    if rules.get("tolerance") is not None and quantity(rules["tolerance"]) < 0:
        yield invalid_value(f"{path}.tolerance", rules["tolerance"], "must be greater than or equal to 0")
    for index, policy in enumerate(rules.get("policies") or ()):
        where = f"{path}.policies[{index}]"
        if policy.get("type") not in _POLICIES:
            yield unsupported(f"{where}.type", policy.get("type", ""), _POLICIES)
        for field in ("value", "periodSeconds"):
            if (policy.get(field) or 0) <= 0:
                yield invalid_value(f"{where}.{field}", policy.get(field, 0), "must be greater than zero")
        if (policy.get("periodSeconds") or 0) > _LONGEST_PERIOD:
            why = f"must be less than or equal to {_LONGEST_PERIOD}"
            yield invalid_value(f"{where}.periodSeconds", policy["periodSeconds"], why)


def _positive(text: object) -> bool:
    return quantity(text) > 0
