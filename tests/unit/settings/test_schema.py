"""The schema is consistent, and the documentation is what it generates."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cilium.settings.kinds import duration, format_duration
from cilium.settings.model import Settings, by_key, schema
from cilium.settings.reference import reference

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "settings.md"


def test_reference_is_up_to_date() -> None:
    assert REFERENCE.read_text() == reference(), f"run: python -m cilium.settings.reference {REFERENCE}"


def test_names_are_unique() -> None:
    keys = Counter(entry.setting.key for entry in schema() if entry.setting.key)
    paths = Counter(path for entry in schema() for path in entry.setting.helm)
    assert not [name for counter in (keys, paths) for name, count in counter.items() if count > 1]


def test_every_setting_is_reachable_and_explained() -> None:
    for entry in schema():
        assert entry.setting.key or entry.setting.helm
        assert entry.setting.meaning.endswith(".")
        assert entry.setting.kind.parse(entry.setting.kind.format(entry.default)) == entry.default
        assert all(key in by_key() for key in entry.setting.when)


def test_settings_compare_by_value() -> None:
    assert Settings(origins={"a": "b"}) == Settings()


@given(st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000))
def test_durations_round_trip(seconds: float) -> None:
    assert abs(duration().parse(format_duration(seconds)) - seconds) < 1e-9 * max(1.0, seconds)
