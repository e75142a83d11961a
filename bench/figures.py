"""What benchmarks return: figures with their spread and target, and the table in which they are printed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line. `low` and `high` are the quartiles of the rounds that `value` is the median of."""

    name: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    target: float | None = None
    better: Better = "lower"
    note: str = ""

    @property
    def met(self) -> bool | None:
        """None without a target."""
        if self.target is None:
            return None
        return self.value <= self.target if self.better == "lower" else self.value >= self.target


def median(
    name: str,
    values: Sequence[float],
    *,
    unit: str = "",
    target: float | None = None,
    better: Better = "lower",
    note: str = "",
) -> Figure:
    """The median of rounds with its quartiles."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return Figure(
        name=name, value=statistics.median(values), unit=unit, low=low, high=high,
        target=target, better=better, note=note,
    )  # fmt: skip


def distribution(name: str, values: Sequence[float], *, unit: str, target: float | None = None) -> list[Figure]:
    """Median with its target, 90th percentile and worst."""
    ordered = sorted(values)
    p90 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.9))]
    return [
        median(f"{name}, median of {len(ordered)}", ordered, unit=unit, target=target),
        Figure(name=f"{name}, p90", value=p90, unit=unit),
        Figure(name=f"{name}, worst", value=ordered[-1], unit=unit),
    ]


def lines(figures: Iterable[Figure]) -> list[str]:
    """A Markdown table."""
    rows = [("figure", "median", "quartiles", "target", "", "note")]
    for figure in figures:
        spread = "" if figure.low is None or figure.high is None else f"{_text(figure.low)} - {_text(figure.high)}"
        sign = "≤" if figure.better == "lower" else "≥"
        target = "" if figure.target is None else f"{sign} {_text(figure.target)}"
        met = {None: "", True: "met", False: "MISSED"}[figure.met]
        rows.append((figure.name, f"{_text(figure.value)} {figure.unit}".strip(), spread, target, met, figure.note))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    table.insert(1, "-|-".join("-" * width for width in widths))
    return [f"| {row} |" for row in table]


def _text(value: float) -> str:
    if value and abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"
