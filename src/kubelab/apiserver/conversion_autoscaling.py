"""HorizontalPodAutoscalers in version 1, which knows the CPU only.

Owns: the way from autoscaling/v1 to v2, in which they are kept, and back. What v1 has no fields for stands in its
annotations `autoscaling.alpha.kubernetes.io/…`, so that nothing is lost on the way. Comes in and goes out: objects.
Source: Kubernetes API reference, HorizontalPodAutoscaler v1 and v2; the annotations of autoscaling/v1.
"""

from collections.abc import Callable
from typing import Any

import msgspec

Object = dict[str, Any]
KEY = "horizontalpodautoscalers.autoscaling"
_ALPHA = "autoscaling.alpha.kubernetes.io/"
_METRICS, _CURRENT = f"{_ALPHA}metrics", f"{_ALPHA}current-metrics"
_CONDITIONS, _BEHAVIOR = f"{_ALPHA}conditions", f"{_ALPHA}behavior"
_FIELDS = (_METRICS, _CURRENT, _CONDITIONS, _BEHAVIOR)
_TARGETS = {
    "Resource": (("averageUtilization", "targetAverageUtilization"), ("averageValue", "targetAverageValue")),
    "ContainerResource": (("averageUtilization", "targetAverageUtilization"), ("averageValue", "targetAverageValue")),
    "Pods": (("averageValue", "targetAverageValue"),),
    "Object": (("value", "targetValue"), ("averageValue", "averageValue")),
    "External": (("value", "targetValue"), ("averageValue", "targetAverageValue")),
}
_NAMED = ("Pods", "Object", "External")
"""Metrics that have a name and a selector."""


def to_v2(obj: Object) -> Object:
    """What a client of v1 sent."""
    spec = {k: v for k, v in (obj.get("spec") or {}).items() if k != "targetCPUUtilizationPercentage"}
    status = {k: v for k, v in (obj.get("status") or {}).items() if k != "currentCPUUtilizationPercentage"}
    notes = dict((obj.get("metadata") or {}).get("annotations") or {})
    percent = (obj.get("spec") or {}).get("targetCPUUtilizationPercentage")
    metrics = [_metric_to_v2(one, _target_to_v2) for one in _read(notes.get(_METRICS)) or ()]
    if percent is not None:
        metrics.append(_cpu("target", {"type": "Utilization", "averageUtilization": percent}))
    measured = [_metric_to_v2(one, _current_to_v2) for one in _read(notes.get(_CURRENT)) or ()]
    current = (obj.get("status") or {}).get("currentCPUUtilizationPercentage")
    if current is not None:
        measured.append(_cpu("current", {"averageUtilization": current}))
    behavior, conditions = _read(notes.get(_BEHAVIOR)), _read(notes.get(_CONDITIONS))
    spec |= {
        **({"metrics": metrics} if metrics else {}),
        **({"behavior": _cased(behavior, low=True)} if behavior else {}),
    }
    status |= {
        **({"currentMetrics": measured} if measured else {}),
        **({"conditions": conditions} if conditions else {}),
    }
    made = {**obj, "apiVersion": "autoscaling/v2", **({"spec": spec} if "spec" in obj else {})}
    if status:
        made["status"] = status
    return _annotated(made, {k: v for k, v in notes.items() if k not in _FIELDS})


def from_v2(obj: Object) -> Object:
    """What a client of v1 sees."""
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    notes = {k: v for k, v in (obj["metadata"].get("annotations") or {}).items() if k not in _FIELDS}
    metrics, measured = spec.pop("metrics", None) or [], status.pop("currentMetrics", None) or []
    percent, rest = _without_cpu(metrics, "target")
    current, known = _without_cpu(measured, "current")
    if percent is not None:
        spec["targetCPUUtilizationPercentage"] = percent
    if current is not None:
        status["currentCPUUtilizationPercentage"] = current
    behavior, conditions = spec.pop("behavior", None), status.pop("conditions", None)
    for note, content in (
        (_METRICS, [_metric_to_v1(one, _target_to_v1) for one in rest]),
        (_CURRENT, [_metric_to_v1(one, _current_to_v1) for one in known if one.get("type")]),
        (_CONDITIONS, conditions),
        (_BEHAVIOR, _cased(behavior, low=False)),
    ):
        if content:
            notes[note] = msgspec.json.encode(content).decode()
    made = {**obj, "apiVersion": "autoscaling/v1", "spec": spec}
    if status:
        made["status"] = {"currentReplicas": 0, "desiredReplicas": 0, **status}
    return _annotated(made, notes)


def _cpu(field: str, content: Object) -> Object:
    return {"type": "Resource", "resource": {"name": "cpu", field: content}}


def _without_cpu(metrics: list[Object], field: str) -> tuple[int | None, list[Object]]:
    """The first utilization of the CPU, and all others."""
    for place, metric in enumerate(metrics):
        resource = metric.get("resource") or {}
        percent = (resource.get(field) or {}).get("averageUtilization")
        if metric.get("type") == "Resource" and resource.get("name") == "cpu" and percent is not None:
            return percent, [*metrics[:place], *metrics[place + 1 :]]
    return None, metrics


def _metric_to_v1(metric: Object, content: Callable[[str, Object], Object]) -> Object:
    kind = str(metric.get("type", ""))
    field = _field(kind)
    source = dict(metric.get(field) or {})
    made = content(kind, source)
    if kind in _NAMED:
        identity = source.get("metric") or {}
        made["metricName"] = identity.get("name", "")
        if identity.get("selector"):
            made["metricSelector" if kind == "External" else "selector"] = identity["selector"]
    if kind == "Object":
        made["target"] = source.get("describedObject") or {}
    made |= {name: source[name] for name in ("name", "container") if name in source}
    return {"type": kind, field: made}


def _metric_to_v2(metric: Object, content: Callable[[str, Object], Object]) -> Object:
    kind = str(metric.get("type", ""))
    field = _field(kind)
    source = metric.get(field) or {}
    made = content(kind, source)
    if kind in _NAMED:
        selector = source.get("metricSelector" if kind == "External" else "selector")
        made["metric"] = {"name": source.get("metricName", ""), **({"selector": selector} if selector else {})}
    if kind == "Object":
        made["describedObject"] = source.get("target") or {}
    made |= {name: source[name] for name in ("name", "container") if name in source}
    return {"type": kind, field: made}


def _target_to_v1(kind: str, source: Object) -> Object:
    target = source.get("target") or {}
    return {old: target[new] for new, old in _TARGETS.get(kind, ()) if target.get(new) is not None}


def _target_to_v2(kind: str, source: Object) -> Object:
    found = {new: source[old] for new, old in _TARGETS.get(kind, ()) if source.get(old) is not None}
    named = {"averageUtilization": "Utilization", "averageValue": "AverageValue"}
    return {"target": {"type": next((named[f] for f in found if f in named), "Value"), **found}}


def _current_to_v1(kind: str, source: Object) -> Object:
    current = source.get("current") or {}
    named = {"value": "currentValue", "averageValue": "currentAverageValue",
             "averageUtilization": "currentAverageUtilization"}  # fmt: skip
    return {named[field]: value for field, value in current.items() if field in named}


def _current_to_v2(kind: str, source: Object) -> Object:
    named = {"currentValue": "value", "currentAverageValue": "averageValue",
             "currentAverageUtilization": "averageUtilization"}  # fmt: skip
    return {"current": {named[field]: value for field, value in source.items() if field in named}}


def _cased(value: Any, *, low: bool) -> Any:
    """The behavior with the names that its annotation has: those of fields in Go."""
    if isinstance(value, list):
        return [_cased(one, low=low) for one in value]
    if not isinstance(value, dict):
        return value
    turned = {(k[:1].lower() if low else k[:1].upper()) + k[1:]: _cased(v, low=low) for k, v in value.items()}
    return {k: v for k, v in turned.items() if v is not None}


def _field(kind: str) -> str:
    return kind[:1].lower() + kind[1:]


def _read(text: str | None) -> Any:
    """What an annotation holds; one that cannot be read holds nothing."""
    try:
        return msgspec.json.decode(text) if text else None
    except msgspec.DecodeError:
        return None


def _annotated(obj: Object, notes: dict[str, str]) -> Object:
    metadata = {k: v for k, v in (obj.get("metadata") or {}).items() if k != "annotations"}
    return {**obj, "metadata": {**metadata, **({"annotations": notes} if notes else {})}}
