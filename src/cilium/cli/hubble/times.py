"""Times of the command line: `--since 5m`, `--since 2026-11-23T01:02:03Z`, and how times are printed.

Owns: parsing and the named formats. Relative times count back from now. Bad input raises click.BadParameter.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

FORMATS = {
    "StampMilli": "%b %e %H:%M:%S.{milli}",
    "YearMonthDay": "%Y-%m-%d",
    "YearMonthDayHour": "%Y-%m-%dT%H%z",
    "YearMonthDayHourMinute": "%Y-%m-%dT%H:%M%z",
    "RFC3339": "%Y-%m-%dT%H:%M:%S%z",
    "RFC3339Milli": "%Y-%m-%dT%H:%M:%S.{milli}%z",
    "RFC3339Micro": "%Y-%m-%dT%H:%M:%S.{micro}%z",
    "RFC3339Nano": "%Y-%m-%dT%H:%M:%S.{nano}%z",
    "RFC1123Z": "%a, %d %b %Y %H:%M:%S %z",
}
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECOND = 1_000_000_000


def duration(value: str) -> timedelta:
    """`1h30m`, `5s`, `2d`. Raises ValueError."""
    if not value or _PART.sub("", value):
        raise ValueError(f"{value!r} is no duration: give numbers with units, for example 90s, 5m or 1h30m")
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value)))


def nanoseconds(value: str) -> int:
    """Unix time of a duration ago, or of an absolute time; without a zone it is local time."""
    if _PART.match(value) and not _PART.sub("", value):
        moment = datetime.now(UTC) - duration(value)
    else:
        moment = _absolute(value)
    return round(moment.timestamp() * 1_000_000) * 1000


def _absolute(value: str) -> datetime:
    text = re.sub(r"(\.\d{6})\d+", r"\1", value)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            moment = datetime.strptime(text, FORMATS["RFC1123Z"])
        except ValueError:
            raise click.BadParameter(
                f"{value!r} is no time: give a duration (5m) or a time (2026-11-23T01:02:03Z)"
            ) from None
    return moment if moment.tzinfo else moment.astimezone()


def formatted(seconds: int, nanos: int, name: str) -> str:
    """A time in one of `FORMATS`, in local time."""
    moment = datetime.fromtimestamp(seconds, UTC).astimezone()
    text = moment.strftime(FORMATS[name])
    if "%z" in FORMATS[name] and name != "RFC1123Z":
        text = text.removesuffix("+0000") + "Z" if text.endswith("+0000") else f"{text[:-2]}:{text[-2:]}"
    return text.format(milli=f"{nanos // 1_000_000:03d}", micro=f"{nanos // 1000:06d}", nano=f"{nanos:09d}")


def parts(nanoseconds_: int) -> tuple[int, int]:
    """(seconds, nanoseconds)."""
    return divmod(nanoseconds_, _SECOND)
