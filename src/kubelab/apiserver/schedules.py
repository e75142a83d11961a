"""Cron schedules: when a CronJob is due.

In: the five fields or a descriptor (`@hourly`, `@every 1h30m`), and a time zone. Out: moments. The fields are read by
cronsim (docs/adr/0023-cron-schedules.md), which follows Debian's cron through changes of daylight saving time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EVERY = re.compile(r"@every\s+((?:\d+(?:\.\d+)?(?:h|m|s))+)")
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|m|s)")
_SECONDS = {"h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True)
class Schedule:
    """Either `fields` in `zone`, or `every` so many seconds."""

    fields: str
    every: float
    zone: ZoneInfo

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The moments after `moment`, in order, in UTC."""
        if self.every:
            while True:
                moment += timedelta(seconds=self.every)
                yield moment.astimezone(UTC)
        for due in CronSim(self.fields, moment.astimezone(self.zone)):
            yield due.astimezone(UTC)

    def last(self, since: datetime, until: datetime) -> tuple[datetime | None, int]:
        """The latest moment after `since` and not after `until`, and how many there were; counted up to 101."""
        found, count = None, 0
        for due in self.after(since):
            if due > until:
                return found, count
            found, count = due, count + 1
            if count > 100:
                break
        if not self.every and found is not None:
            # A minute more: walking back does not look at the minute it starts from.
            back = CronSim(self.fields, (until + timedelta(seconds=1)).astimezone(self.zone), reverse=True)
            found = next(back).astimezone(UTC)
        elif found is not None:
            found += timedelta(seconds=self.every * ((until - found).total_seconds() // self.every))
        return found, count


def parse(text: str, zone: str | None = None) -> Schedule:
    """Raises ValueError that says what is wrong with the schedule or the time zone."""
    place = time_zone(zone) if zone else ZoneInfo("UTC")
    if match := _EVERY.fullmatch(text.strip()):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(match[1]))
        if seconds >= 1:
            return Schedule("", float(int(seconds)), place)
    fields = _DESCRIPTORS.get(text.strip(), text).replace("?", "*")
    count = len(fields.split())
    if text.strip().startswith("@") and fields == text:
        raise ValueError(f"unrecognized descriptor: {text}")
    if count != 5:
        raise ValueError(f"expected exactly 5 fields, found {count}: [{' '.join(text.split())}]")
    try:
        CronSim(fields, datetime(2026, 1, 1, tzinfo=place))
    except CronSimError as error:
        raise ValueError(f"{error}: {text}") from None
    return Schedule(fields, 0.0, place)


def time_zone(name: str) -> ZoneInfo:
    """Raises ValueError for a name that the time zone database does not have."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"unknown time zone {name}") from None
