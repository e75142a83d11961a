"""The report as text, as JUnit XML and as a recorded file."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from unit.connectivity.policy_tests.shop import FILE, STATE, cases, resolver, result

from cilium.connectivity.policy_tests import record
from cilium.connectivity.policy_tests.expectations import parse
from cilium.connectivity.policy_tests.judge import Actual, CaseResult
from cilium.connectivity.policy_tests.junit import document
from cilium.connectivity.policy_tests.plan import Case, plan
from cilium.connectivity.policy_tests.report import StepResult, step_lines, summary

TEXT = """
- {from: shop/shell, to: shop/db, expect: allowed}
- {from: shop/shell, to: shop/db, ports: [9], families: IPv4, expect: denied}
- {from: shop/web, to: shop/db, families: IPv4, expect: denied}
"""


def step() -> StepResult:
    four, six, odd, fine = cases(TEXT)
    results = (
        result(four, Actual.DENIED, "NetworkPolicy shop/x", reason="ingress of <db> \x00 by X"),
        result(six, Actual.DENIED, "NetworkPolicy shop/x", reason="ingress of <db> \x00 by X"),
        result(odd, Actual.ERROR, reason="refused"),
        result(fine, Actual.DENIED),
    )
    return StepResult("01-deny", Path("t/01-deny/expectations.yaml"), results, 1.25, ("f.yaml:1: x is not enforced",))


def test_a_difference_is_shown_with_its_line_and_the_deciding_policy() -> None:
    lines = list(step_lines(step(), verbose=False))
    assert lines[0] == "01-deny: 1 as expected, 2 not, 1 undecided (5 probes, 1.2 s)"
    assert lines[1] == "  note     f.yaml:1: x is not enforced"
    assert lines[2] == "  DIFFERS  shop/shell -> shop/db 5432/TCP IPv4 IPv6"
    assert lines[3].split() == ["-", "expected", "allowed", "(t/01-deny/expectations.yaml:2)"]
    assert lines[4].strip() == "+ actual   denied: ingress of <db> \x00 by X"
    assert "shop/shell -> shop/db-abc-1 5432/TCP IPv4 at 198.18.0.4: no answer" in lines[5]
    assert any(line.startswith("  ERROR    shop/shell -> shop/db 9/TCP IPv4") for line in lines)
    assert not any("shop/web" in line for line in lines)
    assert any(line.startswith("  ok       shop/web") for line in step_lines(step(), verbose=True))
    assert summary([step()]) == "4 expected, 2 not so, 1 undecided"


def test_junit_has_every_case_and_counts_that_add_up() -> None:
    root = ElementTree.fromstring(document("shop", [step(), step()], "file.yaml: <broken>\nmore"))
    assert root.tag == "testsuites"
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "9", "failures": "4", "errors": "3", "skipped": "0",
    }  # fmt: skip
    for suite in root:
        found = suite.findall("testcase")
        assert len(found) == int(suite.get("tests", "")) == len({case.get("name") for case in found})
        for tag, count in (("failure", "failures"), ("error", "errors")):
            assert sum(case.find(tag) is not None for case in found) == int(suite.get(count, ""))
        assert all(case.get("classname") == suite.get("name") and float(case.get("time", "")) >= 0 for case in found)
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "expected allowed, but denied: ingress of <db>  by X"
    assert "expectations.yaml:2" in str(failure.text)
    (wrong,) = root[-1]
    assert wrong[0].get("message") == "file.yaml: <broken>"


def test_a_recorded_file_is_sorted_and_reads_back_as_what_happened() -> None:
    planned = plan(FILE, record.questions(STATE), resolver())

    def happened(case: Case) -> CaseResult:
        if case.port == "53/UDP":
            return result(case, Actual.ERROR, reason="refused")
        allowed = str(case.target) == "shop/web" and case.family == 4
        return result(case, Actual.ALLOWED if allowed else Actual.DENIED, "NetworkPolicy shop/x")

    results = [happened(case) for case in planned]
    text = record.text(results)
    assert text == record.text(reversed(results))
    read = parse(FILE, text)
    assert len(read) == sum(line.startswith("- from") for line in text.splitlines())
    assert [(str(e.sources[0]), str(e.targets[0]), e.families, e.allowed) for e in read[:3]] == [
        ("shop/db", "shop/web", (4,), True),
        ("shop/db", "shop/web", (6,), False),
        ("shop/shell", "shop/db", (), False),
    ]
    assert "# shop/db -> shop/web 53/UDP IPv4: not recorded: refused" in text
    assert "# by NetworkPolicy shop/x" in text
    assert [str(e.targets[0]) for e in read][-3:] == ["world"] * 3, "the world comes last"
