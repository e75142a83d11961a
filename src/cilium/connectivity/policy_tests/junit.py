"""The report of policy tests for CI: one testsuite per step, one testcase per source, target, port and family.

In: the results of steps, or why there are none. Out: the bytes of a JUnit document.
"""

from __future__ import annotations

from collections.abc import Sequence

from cilium.connectivity import junit
from cilium.connectivity.policy_tests.judge import CaseResult, Result
from cilium.connectivity.policy_tests.report import StepResult, actual_text, case_lines, expected_text


def document(name: str, steps: Sequence[StepResult], wrong: str = "") -> bytes:
    """`wrong`: why the test could not be run to its end; it becomes a testcase with an error."""
    suites = [
        junit.Suite(name=f"{name}.{step.name}", cases=[_case(step, case) for case in step.cases], seconds=step.seconds)
        for step in steps
    ]
    if wrong:
        remark = junit.Remark(kind="error", type="wrong-test", message=wrong.splitlines()[0], text=wrong)
        suites.append(junit.Suite(name=f"{name}.test", cases=[junit.Case(name="the test can be run", remark=remark)]))
    return junit.document(name, suites)


def _case(step: StepResult, case: CaseResult) -> junit.Case:
    return junit.Case(
        name=f"{case.case.name} {expected_text(case)}",
        seconds=case.seconds,
        remark=None if case.result is Result.OK else _remark(step, case),
        attributes={"file": str(step.file), "line": str(case.case.expectation.line)},
    )


def _remark(step: StepResult, case: CaseResult) -> junit.Remark:
    worst = next(outcome for outcome in case.outcomes if case.result_of(outcome) is case.result)
    return junit.Remark(
        kind="failure" if case.result is Result.DIFFERS else "error",
        type=worst.verdict.actual.value,
        message=f"expected {expected_text(case)}, but {actual_text(worst)}",
        text="\n".join(case_lines(step.file, [case])),
    )
