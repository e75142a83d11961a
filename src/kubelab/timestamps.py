"""Points in time as the API writes them (RFC 3339, UTC): Time in seconds, MicroTime, and the log's nanoseconds.

Comes in: aware datetimes, or seconds since 1970. Goes out: text; and the way back.
"""

from datetime import UTC, datetime


def now() -> str:
    """This second."""
    return seconds(datetime.now(UTC))


def seconds(moment: datetime | float) -> str:
    """A `Time`."""
    return f"{_utc(moment).isoformat()[:19]}Z"


def micros(moment: datetime | float | None = None) -> str:
    """A `MicroTime`; without a moment: this one."""
    return f"{_utc(datetime.now(UTC) if moment is None else moment):%Y-%m-%dT%H:%M:%S.%fZ}"


def nanos(moment: datetime | float) -> str:
    """Nine digits, as runtimes write them into logs."""
    return f"{_utc(moment):%Y-%m-%dT%H:%M:%S.%f}000Z"


def parse(text: str) -> datetime:
    """Any precision and offset; a time without offset is refused, as RFC 3339 does. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or len(text) < 20:
        raise ValueError(f"{text!r} is not an RFC 3339 time (2006-01-02T15:04:05Z)")
    return moment.astimezone(UTC)


def _utc(moment: datetime | float) -> datetime:
    return moment.astimezone(UTC) if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)
