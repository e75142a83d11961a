"""`cilium` in the agent's container: documents of upstream's API, for what upstream's CLI executes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from unit.cli.dbg.agent_api import Served, agent

from cilium.cli.dbg import models
from cilium.cli.dbg.upstream import dialect

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("CILIUM_SOCK", str(tmp_path / "cilium.sock"))
    with Served(agent(), tmp_path / "cilium.sock"):
        yield lambda *words: CliRunner().invoke(dialect(), words)


def test_status(run: Run) -> None:
    document = json.loads(run("status", "-o", "json").output)
    assert document["cilium"] == {"state": "Ok", "msg": "1.2.3"}
    assert document["cni-chaining"] == {"mode": "none"}
    assert not {"tables", "reconcilers", "version", "proxy"} & document.keys()
    assert run("status", "--brief").output == "OK\n"


def test_replacement_has_upstreams_types() -> None:
    section = {
        "mode": "True", "devices": ["eth0"], "deviceList": [{"name": "eth0", "ip": ["192.0.2.1"], "xdp": "native"}],
        "features": {
            "socketLB": {"enabled": True, "coverage": "Hostns-only"}, "nodePort": {"enabled": True, "mode": "SNAT"},
            "annotations": {"names": ["service.cilium.io/type"]}, "topology": {"enabled": True},
        },
    }  # fmt: skip
    health = {"cilium": {"state": "Ok", "msg": ""}, "controllers": [], "node": "n1", "kube-proxy-replacement": section}
    found = models.status(health)["kube-proxy-replacement"]
    assert found["features"]["annotations"] == ["service.cilium.io/type"]
    assert found["features"]["bpfSocketLBHostnsOnly"] is True
    assert "topology" not in found["features"]
    assert found["deviceList"] == [{"name": "eth0", "ip": ["192.0.2.1"]}]


def test_endpoints_without_the_node_itself(run: Run) -> None:
    web, new = json.loads(run("endpoint", "list", "-o", "json").output)
    assert (web["id"], new["id"]) == (9, 10)
    assert web["status"]["policy"]["realized"] == {"id": 1000, "policy-revision": 3, "policy-enabled": "ingress"}
    assert new["status"]["state"] == "waiting-for-identity"
    assert new["status"]["identity"] is None
    assert run("endpoint", "list").output.startswith("ENDPOINT")
    assert run("endpoint", "get", "9").exit_code == 0  # cilium-dbg's own


def test_paths_into_documents(run: Run) -> None:
    assert run("policy", "get", "-o", "jsonpath='{.revision}'").output == "'3'\n"
    assert run("version", "-o", "jsonpath={$.Daemon.Version}").output.startswith(f"{models.API_VERSION}-")
    refused = run("policy", "get", "-o", "jsonpath={.missing}")
    assert (refused.exit_code, "no field missing" in refused.output) == (1, True)
    assert "write json or jsonpath" in run("version", "-o", "yaml").output
    assert run("policy", "wait", "3", "--max-wait-time", "0").exit_code == 1  # the pod that waits for its identity


def test_services_and_the_ipcache() -> None:
    document: dict[str, Any] = {
        "id": 3, "frontend": {"ip": "10.96.0.10", "port": 53, "protocol": "UDP"}, "scope": "cluster",
        "type": "ClusterIP", "namespace": "kube-system", "name": "kube-dns",
        "backends": [{"ip": "10.0.0.3", "port": 53, "node": "n1", "state": "active", "weight": 1}],
    }  # fmt: skip
    spec = models.service(document)["spec"]
    assert spec["frontend-address"] == {"ip": "10.96.0.10", "port": 53, "protocol": "udp", "scope": "external"}
    assert spec["backend-addresses"][0]["nodeName"] == "n1"
    rows = [{"ip": "10.0.0.3/32", "identity": 300, "encrypt-key": 0, "tunnel-endpoint": "-", "flags": "-"}]
    assert models.ipcache(rows) == {"10.0.0.3/32": ["300 0 0.0.0.0"]}
