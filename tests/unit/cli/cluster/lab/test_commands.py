"""Words of `cilium lab` and what they mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from cilium.cli.cluster.lab.watching import table
from cilium.cli.cluster.main import main
from kubelab.lab import state
from kubelab.lab.api import LabApi
from kubelab.lab.lab import Lab
from kubelab.lab.options import LabOptions
from kubelab.lab.state import LabState, NodeRecord
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


@pytest.mark.parametrize("words", [["--ipv4", "--ipv6"], ["--dual-stack", "--ipv6"]])
def test_families_exclude_each_other(words: list[str]) -> None:
    answer = CliRunner().invoke(main, ["lab", "up", *words])
    assert answer.exit_code == 2
    assert "--dual-stack, --ipv4 and --ipv6 exclude each other" in answer.output


@pytest.fixture
def blue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A lab of that name, of whose daemons none runs, and node2 is stopped."""
    monkeypatch.setattr(state, "ROOT", tmp_path)
    monkeypatch.setattr("kubelab.lab.lab.require_root", lambda: None)
    paths = state.paths("blue")
    paths.directory.mkdir()
    records = tuple(NodeRecord.of(number, LabOptions()) for number in (1, 2))
    records = (records[0], replace(records[1], stopped=True))
    pids = {"control-plane": (2**22, 1), "kubelet-node1": (2**22, 1), "kubelet-node2": (2**22, 1)}
    paths.write(LabState(name="blue", index=1, options=LabOptions(), nodes=records, pids=pids, complete=True))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list"], "blue   2       https://172.30.1.1:6443   not running: control-plane, kubelet-node1"),
        (["status", "--name", "blue"], "not running: control-plane, kubelet-node1 (cilium lab start --name blue)"),
        (["stop", "--name", "blue", "control-plane"], "control-plane did not run"),
        (["start", "--name", "blue", "nosuch"], "nosuch: lab blue has control-plane, kubelet-node1, kubelet-node2"),
        (["start", "--name", "blue", "kubelet-node2"], "is stopped: cilium lab node start node2 --name blue"),
        (["node", "--name", "blue", "node3", "--", "ls"], "node node3: lab blue has node1, node2, external"),
        (["node", "--name", "blue", "add", "--zone", "a b"], "zone 'a b': a label's value"),
        (["logs", "--name", "blue", "--since", "soon"], "'soon' is no duration"),
    ],
)
def test_what_is_said_of_a_lab_that_does_not_run(blue: None, words: list[str], said: str) -> None:
    assert said in CliRunner().invoke(main, ["lab", *words]).output


def test_a_shell_is_about_the_lab_that_its_variable_names(blue: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CILIUM_LAB", "blue")
    assert "(cilium lab start)" in CliRunner().invoke(main, ["lab", "status"]).output
    assert "node1, node2, external" in CliRunner().invoke(main, ["lab", "node", "nosuch", "--", "ls"]).output
    assert "lab lab is not up" in CliRunner().invoke(main, ["lab", "env", "--name", "lab"]).output
    assert "export CILIUM_LAB=blue" in CliRunner().invoke(main, ["lab", "env"]).output


def test_an_api_server_that_does_not_answer_is_said_with_the_way_out(
    blue: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> LabApi:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(Lab, "api", refuse)
    for words in (["snapshot", "x.yaml", "--name", "blue"], ["node", "--name", "blue", "delete", "node1"]):
        answer = CliRunner().invoke(main, ["lab", *words])
        assert answer.exit_code == 1
        assert "the lab's API server does not answer (Connection refused)" in answer.output
        assert "cilium lab start --name blue" in answer.output
    shop = Path(__file__).parents[5] / "examples" / "policy-tests" / "shop"
    answer = CliRunner().invoke(main, ["lab", "test", str(shop), "--lab", "blue"])
    assert answer.exit_code == 2
    assert "cilium lab start --name blue" in answer.output


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


@pytest.mark.parametrize(
    ("words", "incomplete", "found"),
    [
        (["lab", "status", "--name"], "b", ["blue"]),
        (["lab", "cut", "--name", "blue"], "node", ["node1", "node2"]),
        (["lab", "node", "--name", "blue", "stop"], "node2", ["node2"]),
        (["lab", "cut", "--name", "nobodys"], "", []),
    ],
)
def test_names_of_labs_and_nodes_are_completed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], incomplete: str, found: list[str]
) -> None:
    monkeypatch.setattr(state, "ROOT", tmp_path)
    paths = state.paths("blue")
    paths.directory.mkdir()
    records = tuple(NodeRecord.of(number, LabOptions()) for number in (1, 2))
    paths.write(LabState(name="blue", index=1, options=LabOptions(), nodes=records, pids={}))
    completions = ShellComplete(main, {}, "cilium", "_CILIUM_COMPLETE").get_completions(words, incomplete)
    assert [item.value for item in completions] == found
