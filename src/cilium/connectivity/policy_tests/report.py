"""The report people read: what was expected, what happened, and which policy made it so.

In: the results of steps. Out: lines of text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cilium.connectivity.policy_tests.judge import Actual, CaseResult, Outcome, Result


@dataclass(frozen=True, slots=True)
class StepResult:
    """A step that was run."""

    name: str
    file: Path
    cases: tuple[CaseResult, ...]
    seconds: float
    notes: tuple[str, ...] = ()

    def count(self, result: Result) -> int:
        return sum(case.result is result for case in self.cases)


def step_lines(step: StepResult, *, verbose: bool) -> Iterator[str]:
    """One line for the step; of each case that is not as expected, what, where and why."""
    probes = sum(len(case.outcomes) for case in step.cases)
    counts = [f"{step.count(Result.OK)} as expected"]
    counts += [f"{number} {word}" for result, word in ((Result.DIFFERS, "not"), (Result.ERROR, "undecided"))
               if (number := step.count(result))]  # fmt: skip
    yield f"{step.name}: {', '.join(counts)} ({probes} probes, {step.seconds:.1f} s)"
    yield from (f"  note     {note}" for note in step.notes)
    for cases in _by_family(step.cases):
        first = cases[0]
        families = " ".join(f"IPv{case.case.family}" for case in cases)
        name = f"{first.case.name_of_families} {families}"
        if first.result is not Result.OK:
            word = "DIFFERS" if first.result is Result.DIFFERS else "ERROR"
            yield f"  {word:<8} {name}"
            yield from (f"           {line}" for line in case_lines(step.file, cases))
        elif verbose:
            outcome = first.outcomes[0]
            yield f"  ok       {name}: {outcome.verdict.actual.value}: {outcome.verdict.reason}"


def _by_family(cases: Sequence[CaseResult]) -> list[list[CaseResult]]:
    """Cases that differ in their family only, and have the same result, together."""
    groups: dict[tuple[int, str, Result], list[CaseResult]] = {}
    for case in cases:
        key = case.case.expectation.line, case.case.name_of_families, case.result
        groups.setdefault(key, []).append(case)
    return list(groups.values())


def case_lines(file: Path, cases: Sequence[CaseResult]) -> Iterator[str]:
    """The line that expects it, and each probe that does not fit, those with one reason together."""
    expected = cases[0].case.expectation
    yield f"- expected {expected_text(cases[0])}    ({file}:{expected.line})"
    by_reason: dict[str, list[Outcome]] = {}
    for case in cases:
        for outcome in case.outcomes:
            if case.result_of(outcome) is not Result.OK:
                by_reason.setdefault(actual_text(outcome), []).append(outcome)
    for text, outcomes in by_reason.items():
        yield f"+ actual   {text}"
        for outcome in outcomes:
            yield f"           {outcome.probe} at {outcome.probe.address}: {outcome.answer.detail}"


def expected_text(case: CaseResult) -> str:
    expected = case.case.expectation
    by = f" by {', '.join(expected.decided_by)}" if expected.decided_by else ""
    return f"{'allowed' if expected.allowed else 'denied'}{by}"


def actual_text(outcome: Outcome) -> str:
    verdict = outcome.verdict
    if verdict.actual is Actual.ERROR:
        return f"neither allowed nor denied: {verdict.reason}"
    return f"{verdict.actual.value}: {verdict.reason}"


def summary(steps: Sequence[StepResult]) -> str:
    total = sum(len(step.cases) for step in steps)
    bad = sum(step.count(Result.DIFFERS) for step in steps)
    undecided = sum(step.count(Result.ERROR) for step in steps)
    if not bad and not undecided:
        return f"all {total} as expected"
    return f"{total} expected, {bad} not so, {undecided} undecided"
