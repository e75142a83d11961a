"""Lines of log files: how many, and how old."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from kubelab.lab.log_files import follow, last

OLD, NEW = "timestamp=2026-11-27T09:00:00.5Z level=info event=old", "timestamp=2026-11-27T09:10:00.25Z level=info"
TRACE = "Traceback (most recent call last):"


def test_lines_without_a_time_are_as_old_as_the_one_before(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("\n".join([TRACE, OLD, TRACE, NEW, TRACE, ""]))

    def lines(tail: int | None, minute: int) -> list[str]:
        since = datetime(2026, 11, 27, 9, minute, tzinfo=UTC)
        return [line for _, line in last({"a": log, "not there": tmp_path / "b.log"}, tail, since)]

    assert lines(None, 5) == [NEW, TRACE]
    assert lines(1, 5) == [TRACE]
    assert lines(None, 11) == []
    assert [line for _, line in last({"a": log}, None)] == [TRACE, OLD, TRACE, NEW, TRACE]


def test_who_follows_ends_with_the_lab(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("one\n")
    lines = follow({"a": log, "later": tmp_path / "b.log"}, None)
    assert next(lines) == ("a", "one")
    with log.open("a") as stream:
        stream.write("two\n")
    assert next(lines) == ("a", "two")
    log.unlink()
    assert list(lines) == []
