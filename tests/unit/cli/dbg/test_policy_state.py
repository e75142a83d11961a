"""cilium-dbg policy verdict, selectors, wait against an agent's real API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from unit.app.rest.test_verdicts import node as _node
from unit.cli.dbg.agent_api import Served

from cilium.cli.dbg.main import main
from cilium.tables.rules import Requirement, Selector, SelectorUse

Run = Callable[..., Result]
node = _node
"""The fixture."""


@pytest.fixture
def run(tmp_path: Path, node: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("CILIUM_SOCK", str(tmp_path / "cilium.sock"))
    node.selectors = lambda: [
        SelectorUse(Selector((Requirement("any:app", "In", (app,)),)), (f"CiliumNetworkPolicy shop/{app}",), 1, found)
        for app, found in (("web", (1000, 1001)), ("nobody", ()))
    ]
    with Served(node, tmp_path / "cilium.sock"):
        yield lambda *words: CliRunner().invoke(main, ("policy", *words))


ASKED = ("--endpoint", "shop/web-0", "--direction", "ingress", "--protocol", "tcp", "--port", "80")


def test_a_verdict_for_people_and_for_programs(run: Run) -> None:
    answer = run("verdict", *ASKED, "--peer", "10.0.0.77")
    assert answer.output.splitlines() == [
        "allowed: allow rule (CiliumNetworkPolicy shop/p spec.ingress[1])",
        "endpoint 9, policy 7, identity 1000 (k8s:app=web)",
    ]
    document = json.loads(run("verdict", *ASKED, "--identity", "1234", "-o", "json").output)
    assert (document["verdict"], document["reason"]) == ("denied", "no rule allows it")


def test_bad_questions(run: Run) -> None:
    assert "peer: 'there' is no address" in run("verdict", *ASKED, "--peer", "there").output
    assert run("verdict", *ASKED).exit_code == 2


def test_an_agent_that_is_not_ready_has_no_verdicts(run: Run, node: Any) -> None:
    node.stage = "waiting for Node n1"
    answer = run("verdict", *ASKED, "--peer", "10.0.0.77")
    assert (answer.exit_code, answer.output) == (1, "Error: waiting for Node n1\n")


def test_selectors(run: Run) -> None:
    assert [line.split() for line in run("selectors").output.splitlines()] == [
        ["SELECTOR", "LABELS", "USERS", "IDENTITIES"],
        ["any:app=nobody", "CiliumNetworkPolicy", "shop/nobody", "1", "-"],
        ["any:app=web", "CiliumNetworkPolicy", "shop/web", "1", "1000,1001"],
    ]


def test_waiting_for_a_revision(run: Run, node: Any) -> None:
    late = run("wait", "4", "--max-wait-time", "0.2")
    assert late.exit_code == 1
    assert "not within 0.2 s: endpoint 9 is at revision 3; endpoint 10 is at revision 0" in late.output
    assert run("wait", "0").output == "revision 0 is enforced\n"
