"""What an action should come to, by the rules of its test. Pure.

In: a test, an action. Out: `Expected`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cilium.connectivity.suite.action import Action
from cilium.connectivity.suite.actors import has
from cilium.connectivity.suite.table import Drop, Rule, Test


@dataclass(frozen=True, slots=True)
class Expected:
    """`drop` empty: it passes."""

    drop: Drop = ""
    by: Literal["", "deny", "default"] = ""
    code: int = 0

    def __str__(self) -> str:
        if not self.drop:
            return "allowed"
        where = "dropped" if self.drop == "either" else f"dropped at {self.drop}"
        return where + {"deny": " by a deny rule", "default": " by default deny", "": ""}[self.by]


def expected(test: Test, action: Action) -> Expected:
    rule = next((rule for rule in test.expect if _fits(rule, action)), None)
    return Expected(rule.drop, rule.by, rule.code) if rule is not None else Expected()


def _fits(rule: Rule, action: Action) -> bool:
    return (
        has(action.source.labels, rule.source)
        and has(action.target.labels, rule.target)
        and rule.port in (0, action.target.port)
        and rule.outside in ("", action.target.outside)
    )
