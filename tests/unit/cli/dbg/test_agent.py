"""cilium-dbg against an agent's real API, and against none."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from unit.cli.dbg.agent_api import Served, agent

from cilium.cli.dbg.main import main
from cilium.cli.dbg.render import natural
from cilium.datapath.fakes import FakeMap
from cilium.features.policy.counters import CounterOps
from cilium.features.policy.rows import PolicyStatus
from cilium.state import Table
from cilium.tables.rules import PolicyObject, Requirement, Rule, RuleReference, Selector

Run = Callable[..., Result]


@pytest.fixture
def inspection() -> Any:
    return agent()


@pytest.fixture
def run(tmp_path: Path, inspection: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("CILIUM_SOCK", str(tmp_path / "cilium.sock"))
    with Served(inspection, tmp_path / "cilium.sock"):
        yield lambda *words: CliRunner().invoke(main, words)


def first_column(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [line.split()[0] for line in result.output.splitlines()[1:]]


def test_endpoints_as_table_and_as_json(run: Run) -> None:
    lines = run("endpoint", "list").output.splitlines()
    assert lines[0].split() == [
        "ENDPOINT", "INGRESS", "EGRESS", "IDENTITY", "POD", "IPv6", "IPv4", "STATUS", "LABELS"
    ]  # fmt: skip
    assert lines[1].split() == [
        "9", "Enabled", "Disabled", "1000", "shop/web-0", "fd00::9", "10.0.0.9", "ready", "k8s:app=web"
    ]  # fmt: skip
    assert "waiting-for-identity" in lines[2]
    documents = json.loads(run("endpoint", "list", "-o", "json").output)
    assert [document["id"] for document in documents] == [9, 10, 65535]


@pytest.mark.parametrize("name", ["9", "shop/web-0", "pod-name:shop:web-0", "10.0.0.9", "fd00::9"])
def test_an_endpoint_by_any_of_its_names(run: Run, name: str) -> None:
    assert json.loads(run("endpoint", "get", name).output)["id"] == 9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("endpoint", "get", "77"), "endpoint 77 does not exist; see cilium-dbg endpoint list"),
        (("endpoint", "get", "shop/none"), "no endpoint of this node is shop/none; see cilium-dbg endpoint list"),
        (("identity", "get", "5"), "identity 5 is not known; see cilium-dbg identity list"),
        (("statedb", "nothing"), "table 'nothing' does not exist; tables: attachments, "),
    ],
)
def test_what_is_not_there_is_an_error_with_a_way_on(run: Run, words: tuple[str, ...], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert message in result.output


def test_rows_are_in_natural_order(run: Run) -> None:
    assert first_column(run("identity", "list")) == ["9", "1000"]
    assert first_column(run("ip", "list")) == ["9.0.0.0/8", "10.0.0.9/32", "10.0.0.10/32", "fd00::9/128"]
    assert first_column(run("node", "list")) == ["n1", "n2"]
    cells = ["10.0.0.10", "9", "fd00::2", "10.0.0.9", "b", "10", "-", "a"]
    assert sorted(cells, key=natural) == ["9", "10", "10.0.0.9", "10.0.0.10", "fd00::2", "-", "a", "b"]


def test_any_table_of_the_agent(run: Run) -> None:
    assert "node-health" in first_column(run("statedb"))
    assert json.loads(run("statedb", "node-health", "-o", "json").output)[0]["error"] == "no answer"
    assert run("statedb", "routes").output == "routes: no rows\n"


def test_status_in_words(run: Run, inspection: Any) -> None:
    inspection.sections["ipam"] = lambda: {"msg": "1/254", "allocations": {"10.0.0.9": "shop/web-0"}}
    inspection.sections["kubernetes"] = lambda: {"state": "Ok", "msg": "9 resources", "quarantine": ["pods x/y: bad"]}
    plain = run("status").output
    assert "Cilium:                 Ok   1.2.3" in plain
    assert "IPAM:                   1/254" in plain
    assert "not understood: pods x/y: bad" in plain
    assert "shop/web-0" not in plain
    assert "  10.0.0.9 (shop/web-0)" in run("status", "--all-addresses").output
    assert run("status", "--brief").output == "OK\n"


def test_verbose_status_names_who_does_not_answer(run: Run, inspection: Any) -> None:
    answer = {"ip": "192.0.2.2", "ok": False, "latency": 3.0, "status": "no answer", "last-probed": "12:00"}
    answers = {"ip": "10.0.2.2", "ok": True, "latency": 0.0012, "status": "", "last-probed": "12:01"}
    node = {"name": "n2", "reachable": False, "host": [answer], "health-endpoint": [answers]}
    inspection.sections["cluster"] = lambda: {"msg": "0/1 reachable", "health": {"local": "n1", "nodes": [node]}}
    verbose = run("status", "--verbose").output
    assert "Cluster health:         0/1 reachable" in verbose
    rows = [line.split() for line in verbose.splitlines() if "192.0.2.2" in line or "10.0.2.2" in line]
    assert rows == [
        ["n2", "host", "192.0.2.2", "-", "12:00", "no", "answer"],
        ["n2", "endpoint", "10.0.2.2", "1.2", "ms", "12:01", "reachable"],
    ]


def test_status_as_json_has_upstream_keys_and_a_starting_agent_fails(run: Run, inspection: Any) -> None:
    document = json.loads(run("status", "-o", "json").output)
    assert {"cilium", "controllers", "errors"} <= document.keys()
    inspection.stage = "waiting for Node n1 of the API server"
    result = run("status")
    assert result.exit_code == 1
    assert "Cilium:                 Failure   waiting for Node n1 of the API server" in result.output


def test_policies_with_what_their_rules_count(run: Run, inspection: Any) -> None:
    port = FakeMap("cilium_policy_counters")
    status: Table[str, PolicyStatus] = Table("policy-status", key=lambda row: row.key)
    status.writer("test").commit([PolicyStatus("CiliumNetworkPolicy", "shop", "p", 1, True, "", 7)])
    references: Table[int, RuleReference] = Table("rule-references", key=lambda row: row.cookie)
    rules = [RuleReference(300 + i, "CiliumNetworkPolicy", "shop", "p", "ingress", i) for i in (1, 0)]
    references.writer("test").commit(rules)
    CounterOps(port, cpus=2).update(rules[:1])
    inspection.add_tables([status, references])
    inspection.maps["cilium_policy_counters"] = port
    lines = [line.split() for line in run("policy", "get").output.splitlines()]
    assert lines[1] == ["CiliumNetworkPolicy", "shop/p", "yes", "7"]
    assert [line[2:] for line in lines[4:]] == [["ingress[0]", "-", "-"], ["ingress[1]", "0", "0"]]
    resolved: Table[str, PolicyObject] = Table("resolved-policies", key=lambda row: row.key)
    subject = Selector((Requirement("any:app", "In", ("web",)),))
    resolved.writer("test").upsert(
        PolicyObject("CiliumNetworkPolicy", "shop", "p", "u", 1, (Rule(subject, description="Why"),))
    )
    inspection.add_tables([resolved])
    shown = run("policy", "get", "-n", "shop", "p").output
    head, _, spec = shown.partition("CiliumNetworkPolicy shop/p, revision 7:\n")
    assert "ingress[1]" in head
    (rule,) = json.loads(spec)
    assert (rule["description"], rule["subject"]["requirements"][0]["values"]) == ("Why", ["web"])
    assert run("policy", "get", "-n", "bank").output.split() == ["POLICY", "VALID", "REVISION", "MESSAGE"]
    missing = run("policy", "get", "-n", "bank", "p")
    assert (missing.exit_code, missing.output) == (
        1, "Error: there is no policy p in namespace bank; see cilium-dbg policy get\n"
    )  # fmt: skip


COMMANDS = [("status",), ("endpoint", "list"), ("identity", "list"), ("ip", "list"), ("node", "list"),
            ("policy", "get"), ("statedb",), ("config",), ("version",)]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_without_an_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.setenv("CILIUM_SOCK", str(tmp_path / "none.sock"))
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert f"does not answer on {tmp_path}/none.sock: No such file or directory; is it running" in result.output


def test_an_agent_that_hangs_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rude.sock"
    monkeypatch.setenv("CILIUM_SOCK", str(path))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        process = subprocess.Popen(
            [sys.executable, "-c", "from cilium.cli.dbg.main import main; main()", "status"],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        listener.listen()
        connection, _ = listener.accept()
        connection.recv(1)
        connection.close()
        _, stderr = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "the Cilium agent does not answer on" in stderr
    assert "Traceback" not in stderr


def test_the_command_imports_nothing_heavy() -> None:
    """A node is looked into when it is short of everything; numpy and gRPC come when a command needs them."""
    heavy = ("numpy", "grpc", "google.protobuf", "aiohttp", "prometheus_client", "structlog", "msgspec", "yaml")
    code = f"import sys, cilium.cli.dbg.main; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
