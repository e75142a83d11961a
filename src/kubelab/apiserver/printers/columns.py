"""What a printed column is, and the formats that columns share.

Owns: `Column` and the human formats of durations and counts. Comes in: one object. Goes out: one cell.
Source: Kubernetes API concepts, "Receiving resources as Tables"; durations as kubectl prints them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubelab import timestamps

Object = dict[str, Any]
NONE, UNKNOWN = "<none>", "<unknown>"


@dataclass(frozen=True, slots=True)
class Column:
    """`priority` above 0 shows with `-o wide` only."""

    name: str
    cell: Callable[[Object, datetime], Any]
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""

    def definition(self) -> Object:
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description or self.name,
            "priority": self.priority,
        }


def name_column() -> Column:
    return Column("Name", lambda o, _: o["metadata"]["name"], format="name", description="Name of the object")


def age_column() -> Column:
    return Column(
        "Age", lambda o, now: age(o["metadata"].get("creationTimestamp"), now), description="Time since creation"
    )


def path_column(name: str, path: str, *, default: Any = NONE, type_: str = "string", priority: int = 0) -> Column:
    """A column that shows the value at a dotted path."""
    return Column(name, lambda o, _: dig(o, path, default), type=type_, priority=priority)


def dig(obj: Any, path: str, default: Any = None) -> Any:
    for segment in path.split("."):
        obj = obj.get(segment) if isinstance(obj, dict) else None
        if obj is None:
            return default
    return obj


def age(timestamp: str | None, now: datetime) -> str:
    """The time since `timestamp` as kubectl shows ages."""
    return duration((now - timestamps.parse(timestamp)).total_seconds()) if timestamp else UNKNOWN


def duration(seconds: float) -> str:
    """Two digits of precision: 90s, 5m30s, 2h, 3d4h, 2y10d."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    minutes, hours = total // 60, total // 3600
    if total < 120:
        return f"{max(total, 0)}s"
    if minutes < 10:
        return _pair(minutes, "m", total % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        return _pair(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    return _pair(days // 365, "y", days % 365, "d") if days < 2920 else f"{days // 365}y"


def joined(values: Iterable[Any], *, limit: int = 0) -> str:
    """Comma-separated; beyond `limit` the rest is counted; `<none>` when empty."""
    texts = [str(v) for v in values]
    if limit and len(texts) > limit:
        return f"{','.join(texts[:limit])} + {len(texts) - limit} more..."
    return ",".join(texts) or NONE


def pairs(mapping: dict[str, str] | None) -> str:
    return joined(f"{k}={v}" for k, v in sorted((mapping or {}).items()))


def _pair(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large}{unit}{small}{small_unit}" if small else f"{large}{unit}"
