"""Time stamps, there and back."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from kubelab import timestamps

MOMENT = datetime(2026, 2, 3, 4, 5, 6, 700, tzinfo=timezone(timedelta(hours=2)))


def test_every_precision_is_in_utc() -> None:
    assert timestamps.seconds(MOMENT) == "2026-02-03T02:05:06Z"
    assert timestamps.micros(MOMENT) == "2026-02-03T02:05:06.000700Z"
    assert timestamps.nanos(MOMENT.timestamp()) == "2026-02-03T02:05:06.000700000Z"
    assert timestamps.seconds(MOMENT.timestamp()) == timestamps.seconds(MOMENT)


def test_what_is_written_is_read() -> None:
    assert timestamps.parse(timestamps.micros(MOMENT)) == MOMENT.astimezone(UTC)
    assert timestamps.parse("2026-02-03T04:05:06.000700123+02:00") == MOMENT


@pytest.mark.parametrize("text", ["", "yesterday", "2026-02-03", "2026-02-03T04:05:06"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        timestamps.parse(text)
