"""What a failed run says: the actions, what their commands said, which policy dropped them; the summary; JUnit."""

from __future__ import annotations

from xml.etree import ElementTree

from unit.connectivity.suite.cluster import actions

from cilium.connectivity.suite.cluster import Ran
from cilium.connectivity.suite.events import Result, TestResult
from cilium.connectivity.suite.expect import Expected
from cilium.connectivity.suite.report import action_lines, junit_document, summary

CURL = actions("pod-to-pod")[0]
BAD = Result(
    action=CURL, expected=Expected(), ran=Ran(28, "", "curl: (28) Connection timed out"), problems=("it failed",),
    flows=("ingress of a/b on node2: default deny of NetworkPolicy a/x",),
)  # fmt: skip
GOOD = Result(action=CURL, expected=Expected(), ran=Ran(0, "", ""))
ENDS = "cilium-test-1/client (10.0.1.1) -> cilium-test-1/echo-other-node (10.0.2.5:8080)"
NAME = f"client-egress/pod-to-pod:curl-ipv4-0: {ENDS}"


def some() -> list[TestResult]:
    def made(name: str, **more: object) -> TestResult:
        return TestResult(name=name, number=1, total=4, seconds=1.5, **more)

    return [
        made("no-policies", results=[GOOD, GOOD]),
        made("client-egress", results=[GOOD, BAD], scenarios_skipped=1),
        made("client-ingress", problems=["not on every node"]),
        made("dns-only", reason="Feature l7-proxy is disabled"),
    ]


def test_a_failed_action_shows_command_and_flows() -> None:
    lines = list(action_lines(some()[1], BAD, flows=True))
    assert lines == [
        f"[.] Action [{NAME}]", "❌ it failed", "ℹ️  expected: allowed", "   curl: (28) Connection timed out",
        "📄 Flows of cilium-test-1/client", "   ingress of a/b on node2: default deny of NetworkPolicy a/x",
    ]  # fmt: skip


def test_the_summary_is_that_of_upstream() -> None:
    assert list(summary(some())) == [
        "📋 Test Report",
        "❌ 2/3 tests failed (1/4 actions), 1 tests skipped, 1 scenarios skipped:",
        "Test [client-egress]:",
        f"  ❌ {NAME}",
        "Test [client-ingress]:",
        "  🟥 not on every node",
    ]
    assert list(summary([some()[0], some()[3]])) == [
        "✅ All 1 tests (2 actions) successful, 1 tests skipped, 0 scenarios skipped."
    ]


def test_junit_has_a_case_per_test() -> None:
    root = ElementTree.fromstring(junit_document(some(), {"Args": "--test|x"}, "no more: \x00 gone"))
    counts = {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "5", "failures": "2", "errors": "1", "skipped": "1"}
    assert [case.get("name") for case in root.iter("testcase")][1:3] == ["client-egress", "client-ingress"]
    assert root.find(".//property").attrib == {"name": "Args", "value": "--test|x"}
    texts = [str(one.text) for one in root.iter("failure")]
    assert NAME in texts[0]
    assert "default deny of NetworkPolicy a/x" in texts[0]
    assert texts[1] == "not on every node"
    assert [one.get("message") for one in root.iter("error")] == ["no more:  gone"]
