"""The report for CI: JUnit XML, one testsuite per step, one testcase per source, target, port and family.

In: the results of steps, or why there are none. Out: the document's bytes. What XML cannot carry is left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from cilium.connectivity.policy_tests.judge import CaseResult, Result
from cilium.connectivity.policy_tests.report import StepResult, actual_text, case_lines, expected_text

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(name: str, steps: Sequence[StepResult], wrong: str = "") -> bytes:
    """`wrong`: why the test could not be run to its end; it becomes a testcase with an error."""
    suites = Element("testsuites", name=name)
    for step in steps:
        suite = SubElement(suites, "testsuite", name=f"{name}.{step.name}", time=f"{step.seconds:.3f}")
        _count(suite, len(step.cases), step.count(Result.DIFFERS), step.count(Result.ERROR))
        for case in step.cases:
            _case(suite, f"{name}.{step.name}", step, case)
    if wrong:
        suite = SubElement(suites, "testsuite", name=f"{name}.test")
        _count(suite, 1, 0, 1)
        case_element = SubElement(suite, "testcase", classname=f"{name}.test", name="the test can be run", time="0")
        SubElement(case_element, "error", type="wrong-test", message=_clean(wrong.splitlines()[0])).text = _clean(wrong)
    totals = [[int(suite.get(key, "0")) for suite in suites] for key in ("tests", "failures", "errors")]
    _count(suites, *(sum(column) for column in totals))
    suites.set("time", f"{sum(step.seconds for step in steps):.3f}")
    indent(suites)
    content: bytes = tostring(suites, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _count(element: Element, tests: int, failures: int, errors: int) -> None:
    for key, value in (("tests", tests), ("failures", failures), ("errors", errors), ("skipped", 0)):
        element.set(key, str(value))


def _case(suite: Element, classname: str, step: StepResult, case: CaseResult) -> None:
    name = f"{case.case.name} {expected_text(case)}"
    attributes = {"classname": _clean(classname), "name": _clean(name), "time": f"{case.seconds:.3f}"}
    attributes |= {"file": str(step.file), "line": str(case.case.expectation.line)}
    element = SubElement(suite, "testcase", attributes)
    if case.result is Result.OK:
        return
    tag = "failure" if case.result is Result.DIFFERS else "error"
    worst = next(outcome for outcome in case.outcomes if case.result_of(outcome) is case.result)
    message = f"expected {expected_text(case)}, but {actual_text(worst)}"
    text = "\n".join(case_lines(step.file, [case]))
    SubElement(element, tag, type=worst.verdict.actual.value, message=_clean(message)).text = _clean(text)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("", text)
