"""What is wrong with a set of settings.

In: problems found while reading or checking. Out: one `SettingsError` that lists them all, each with its path
and the way out, so that a user repairs a file once and not error by error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong: `where` is a Helm path, a flag, an environment variable or a file."""

    where: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}"
        return f"{text}; {self.remedy}" if self.remedy else text


class SettingsError(ValueError):
    """Settings that cannot be used. `problems` has every one of them, in the order they were found."""

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{source}: {count} problem{'s' if count != 1 else ''} in the settings"
        super().__init__("\n".join([head, *(f"  - {problem}" for problem in self.problems)]))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A remedy naming the nearest known names, compared without regard to case; empty when nothing is near."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=2, cutoff=0.7)
    if not near:
        return ""
    return "did you mean " + " or ".join(f"'{by_lower[match]}'" for match in near) + "?"
