"""Columns of HorizontalPodAutoscalers."""

from datetime import datetime
from typing import Any

from kubelab.apiserver.printers.columns import Column, Object, age_column, dig, name_column, path_column

_SHOWN = 2
_UNKNOWN = "<unknown>"


def columns() -> dict[str, tuple[Column, ...]]:
    return {
        "horizontalpodautoscalers.autoscaling": (
            name_column(),
            Column("Reference", _reference),
            Column("Targets", _targets),
            path_column("MinPods", "spec.minReplicas", default="<unset>"),
            path_column("MaxPods", "spec.maxReplicas", type_="integer"),
            path_column("Replicas", "status.currentReplicas", default=0, type_="integer"),
            age_column(),
        )
    }


def _reference(obj: Object, _: datetime) -> str:
    return f"{dig(obj, 'spec.scaleTargetRef.kind')}/{dig(obj, 'spec.scaleTargetRef.name')}"


def _targets(obj: Object, _: datetime) -> str:
    """Present value and target of the first metrics."""
    specs, statuses = dig(obj, "spec.metrics", []), dig(obj, "status.currentMetrics", [])
    if not specs:
        return "<none>"
    padded = [*statuses, *({} for _ in specs)]
    texts = [_target(spec, status) for spec, status in zip(specs, padded, strict=False)]
    more = f" + {len(texts) - _SHOWN} more..." if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def _target(spec: Object, status: Object) -> str:
    kind = str(spec.get("type", ""))
    field = kind[:1].lower() + kind[1:]
    source: Any = spec.get(field) or {}
    target, current = source.get("target") or {}, dig(status, f"{field}.current", {})
    named = f"{source.get('name')}: " if kind in ("Resource", "ContainerResource") else ""
    if target.get("averageUtilization") is not None and target.get("averageValue") is None:
        percent = current.get("averageUtilization")
        return f"{named}{_UNKNOWN if percent is None else f'{percent}%'}/{target['averageUtilization']}%"
    if target.get("averageValue") is not None:
        average = " (avg)" if kind in ("Object", "External") else ""
        return f"{named}{current.get('averageValue', _UNKNOWN)}/{target['averageValue']}{average}"
    return f"{named}{current.get('value', _UNKNOWN)}/{target.get('value')}"
