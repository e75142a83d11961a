"""What happens during a run, as it happens: for whoever prints it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from cilium.connectivity.suite.action import Action
from cilium.connectivity.suite.cluster import Ran
from cilium.connectivity.suite.expect import Expected


@dataclass(frozen=True, slots=True)
class Note:
    """A line for people; `debug`: for those who look for something. `sign` is what it begins with."""

    sign: str
    text: str
    debug: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """A test begins, the `number`th of `total`."""

    test: str
    number: int
    total: int


@dataclass(frozen=True, slots=True)
class ScenarioSkipped:
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an action came to. `problems`: why it failed; `warnings`: what its flows lack, where that is no failure.

    `flows`: those that were seen of it, a line each.
    """

    action: Action
    expected: Expected
    ran: Ran
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    flows: tuple[str, ...] = ()


class Outcome(Enum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(slots=True, kw_only=True)
class TestResult:
    """`reason`: why it was skipped. `problems`: of the test as a whole, beside those of its actions."""

    __test__ = False  # for pytest: no test case

    name: str
    number: int
    total: int
    reason: str = ""
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    scenarios_skipped: int = 0

    @property
    def failed_actions(self) -> list[Result]:
        return [result for result in self.results if result.problems]

    @property
    def outcome(self) -> Outcome:
        if self.reason:
            return Outcome.SKIPPED
        return Outcome.FAILED if self.problems or self.failed_actions else Outcome.PASSED


@dataclass(frozen=True, slots=True)
class Asked:
    """A command came back; its flows are looked at later."""

    action: Action


Event = Note | Started | ScenarioSkipped | Asked | TestResult
Tell = Callable[[Event], None]
