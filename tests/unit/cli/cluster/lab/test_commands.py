"""Words of `cilium lab` and what they mean."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from cilium.cli.cluster.lab.watching import table
from cilium.cli.cluster.main import main
from kubelab.lab.lab import Lab
from kubelab.lab.usage import Usage

RUNS = [
    ["node", "--name", "x", "node1", "--", "ip", "-br", "link"],
    ["node", "exec", "--name", "x", "node1", "ip", "-br", "link"],
    ["node", "node1", "--name", "x", "--", "ip", "-br", "link"],
]


@pytest.mark.parametrize("words", RUNS)
def test_a_first_word_that_is_no_subcommand_is_a_node(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    seen: list[Any] = []

    def run(lab: Lab, name: str, command: tuple[str, ...]) -> int:
        seen.append((lab.name, name, command))
        return 3

    monkeypatch.setattr(Lab, "node_exec", run)
    assert CliRunner().invoke(main, ["lab", *words]).exit_code == 3
    assert seen == [("x", "node1", ("ip", "-br", "link"))]


def test_what_a_lab_may_not_be_is_named() -> None:
    answer = CliRunner().invoke(main, ["lab", "up", "--nodes", "2", "--zones", "3"])
    assert answer.exit_code == 1
    assert "zones: 3: a lab of 2 node(s) has 1 to 2 zones" in answer.output


def test_costs_are_summed_by_component() -> None:
    rows = [
        Usage("agent", "node1", "kube-system/a", 1, 0.01, 80 << 20),
        Usage("agent", "node2", "kube-system/b", 1, 0.02, 70 << 20),
        Usage("control-plane", "", "", 1, 0.005, 60 << 20),
    ]
    lines = [line.split() for line in table(rows, containers=False).splitlines()]
    assert lines[1:] == [
        ["agent", "2", "3.0%", "150Mi"],
        ["control-plane", "1", "0.5%", "60Mi"],
        ["total", "3", "3.5%", "210Mi"],
    ]
    assert "kube-system/b" in table(rows, containers=True)
