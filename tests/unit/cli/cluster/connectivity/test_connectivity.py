"""What is printed while tests run, and what may be said on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from unit.connectivity.suite.cluster import actions

from cilium.cli.cluster.connectivity.printing import Printer
from cilium.cli.cluster.main import main
from cilium.connectivity.suite.cluster import Ran
from cilium.connectivity.suite.events import Asked, Note, Result, ScenarioSkipped, Started, TestResult
from cilium.connectivity.suite.expect import Expected

CURL = actions("pod-to-pod")[0]
FAILED = Result(action=CURL, expected=Expected(), ran=Ran(28, "", "late"), problems=("it failed",), flows=("seen",))
PASSED = Result(action=CURL, expected=Expected(), ran=Ran(0, "", ""))


def play(printer: Printer, result: Result) -> None:
    printer(Note("ℹ️ ", "Cilium version: 1.20.0"))
    printer(Note("🐛", "Features: none", debug=True))
    printer(Started("client-egress", 2, 3))
    printer(ScenarioSkipped("client-egress/x", "skipped by user"))
    printer(Asked(CURL))
    printer(Asked(CURL))
    printer(TestResult(name="client-egress", number=2, total=3, results=[PASSED, result]))
    printer(TestResult(name="dns-only", number=3, total=3, reason="Feature l7-proxy is disabled"))
    printer.end_dots()


def test_a_dot_per_action_and_all_about_failures(capsys: pytest.CaptureFixture[str]) -> None:
    play(Printer(verbose=False, debug=False, timestamp=False, flows=False), FAILED)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["ℹ️  Cilium version: 1.20.0", "[=] Test [client-egress] [2/3]", ".."]
    assert lines[3].startswith("  [.] Action [client-egress/pod-to-pod:curl-ipv4-0: ")
    assert lines[4:6] == ["  ❌ it failed", "  ℹ️  expected: allowed"]
    assert lines[-2:] == ["     seen", "[=] Skipping test [dns-only] [3/3] (Feature l7-proxy is disabled)"]
    assert sum("Action" in line for line in lines) == 1, "what passed is not shown"


def test_more_is_printed_for_who_wants_it(capsys: pytest.CaptureFixture[str]) -> None:
    play(Printer(verbose=False, debug=True, timestamp=True, flows=True), PASSED)
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("[2") for line in lines)
    said = "\n".join(lines)
    assert "🐛 Features: none" in said
    assert "🐛 pod-to-pod:curl-ipv4-0" in said
    assert "[-] Skipping Scenario [client-egress/x] (skipped by user)" in said
    assert said.count("No flows seen of cilium-test-1/client") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--test", "!("), "is no regular expression"),
        (("--connect-timeout", "soon"), "'soon' is no duration: write 2s, 500ms or 1m30s"),
        (("--flow-validation", "maybe"), "'disabled', 'warning', 'strict'"),
        (("--hubble=perhaps",), "'perhaps' is not a valid boolean"),
    ],
)
def test_wrong_options_are_named(words: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(main, ["connectivity", "test", *words])
    assert done.exit_code == 2
    assert said in done.output


def test_no_cluster_is_an_error_and_a_report(tmp_path: Path) -> None:
    report = tmp_path / "r" / "junit.xml"
    words = ["connectivity", "test", "--kubeconfig", str(tmp_path / "none"), "--junit-file", str(report)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert f"Error: kubeconfig: cannot read {tmp_path}/none" in done.output
    assert 'errors="1"' in report.read_text()
