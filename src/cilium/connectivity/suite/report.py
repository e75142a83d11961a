"""What is said of a run: lines about a test that failed, the summary, the report for CI.

In: results. Out: lines of text; a JUnit document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cilium.connectivity import junit
from cilium.connectivity.suite.events import Outcome, Result, TestResult


def name(test: TestResult, result: Result) -> str:
    return f"{test.name}/{result.action}"


def action_lines(test: TestResult, result: Result, *, flows: bool) -> Iterator[str]:
    """An action, what is wrong with it, what its command said; `flows`: and how its packets looked."""
    yield f"[.] Action [{name(test, result)}]"
    yield from (f"❌ {problem}" for problem in result.problems)
    yield from (f"⚠️  flows: {warning}" for warning in result.warnings)
    if result.problems:
        yield f"ℹ️  expected: {result.expected}"
        yield from (f"   {line}" for line in result.ran.words.splitlines())
    if flows:
        yield f"📄 {'Flows' if result.flows else 'No flows seen'} of {result.action.source}"
        yield from (f"   {line}" for line in result.flows)


def summary(results: Sequence[TestResult]) -> Iterator[str]:
    """Of all tests, in upstream's words."""
    failed = [test for test in results if test.outcome is Outcome.FAILED]
    skipped = sum(test.outcome is Outcome.SKIPPED for test in results)
    actions = sum(len(test.results) for test in results)
    rest = f"{skipped} tests skipped, {sum(test.scenarios_skipped for test in results)} scenarios skipped"
    if not failed:
        yield f"✅ All {len(results) - skipped} tests ({actions} actions) successful, {rest}."
        return
    bad = sum(len(test.failed_actions) for test in failed)
    yield "📋 Test Report"
    yield f"❌ {len(failed)}/{len(results) - skipped} tests failed ({bad}/{actions} actions), {rest}:"
    for test in failed:
        yield f"Test [{test.name}]:"
        yield from (f"  🟥 {problem}" for problem in test.problems)
        yield from (f"  ❌ {name(test, result)}" for result in test.failed_actions)


def junit_document(results: Sequence[TestResult], properties: Mapping[str, str], wrong: str = "") -> bytes:
    """`wrong`: why the suite could not be run to its end."""
    cases = [junit.Case(name=test.name, seconds=test.seconds, remark=_remark(test)) for test in results]
    if wrong:
        remark = junit.Remark(kind="error", message=wrong.splitlines()[0], text=wrong)
        cases.append(junit.Case(name="the suite can be run", remark=remark))
    seconds = sum(test.seconds for test in results)
    suite = junit.Suite(name="connectivity test", cases=cases, seconds=seconds, properties=properties)
    return junit.document("connectivity test", [suite])


def _remark(test: TestResult) -> junit.Remark | None:
    if test.outcome is Outcome.SKIPPED:
        return junit.Remark(kind="skipped", message=test.reason)
    if test.outcome is Outcome.PASSED:
        return None
    lines = [*test.problems]
    for result in test.failed_actions:
        lines += action_lines(test, result, flows=True)
    return junit.Remark(kind="failure", type="failure", message=f"{test.name} failed", text="\n".join(lines))
