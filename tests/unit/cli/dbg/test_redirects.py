"""cilium-dbg lrp against an agent's real API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from unit.cli.dbg.agent_api import Served, agent

from cilium.cli.dbg.main import main
from cilium.tables.redirects import LocalRedirect, RedirectBackend, RedirectMapping, RedirectPolicy, RedirectPort

Run = Callable[..., Result]
HTTP = (RedirectPort(80, "TCP"),)
METADATA = RedirectPolicy(
    "shop", "metadata", "u1", address=ip_address("169.254.169.254"), ports=HTTP, backend_ports=HTTP
)
DNS = RedirectPolicy("kube-system", "dns", "u2", service="kube-system/kube-dns", backend_ports=HTTP, skip_backends=True)
BROKEN = RedirectPolicy("shop", "zero", "u3", error="spec.redirectBackend.toPorts: is empty")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    inspection = agent()
    ends = (RedirectBackend("shop/proxy", ip_address("10.0.0.1"), 8080),)
    six = (
        RedirectBackend("kube-system/a", ip_address("fd00::1"), 53),
        RedirectBackend("kube-system/b", ip_address("fd00::2"), 53),
    )
    inspection.tables["local-redirects"].writer("test").commit(
        upserts=[
            LocalRedirect(METADATA, (RedirectMapping(ip_address("169.254.169.254"), 80, "TCP", ends),)),
            LocalRedirect(DNS, (
                RedirectMapping(ip_address("fd10::10"), 53, "UDP", six),
                RedirectMapping(ip_address("10.96.0.10"), 53, "UDP"),
            )),
            LocalRedirect(BROKEN),
        ]
    )  # fmt: skip
    monkeypatch.setenv("CILIUM_SOCK", str(tmp_path / "cilium.sock"))
    with Served(inspection, tmp_path / "cilium.sock"):
        yield lambda *words: CliRunner().invoke(main, words)


def test_policies_as_table(run: Run) -> None:
    result = run("lrp", "list")
    assert result.exit_code == 0, result.output
    header, *lines = result.output.splitlines()
    assert header == "LRP namespace   LRP name   FrontendType                Matching Service", "details widen nothing"
    assert [" ".join(line.split()) for line in lines] == [
        "kube-system dns clusterIP + all svc ports kube-system/kube-dns",
        "| [fd10::10]:53/UDP -> [fd00::1]:53(kube-system/a), [fd00::2]:53(kube-system/b)",
        "| 10.96.0.10:53/UDP -> none",
        "shop metadata IP + port",
        "| 169.254.169.254:80/TCP -> 10.0.0.1:8080(shop/proxy)",
        "shop zero unknown",
        "| error: spec.redirectBackend.toPorts: is empty",
    ]


def test_policies_as_json(run: Run) -> None:
    found = {row["name"]: row for row in json.loads(run("lrp", "list", "-o", "json").output)}
    assert found["metadata"] == {
        "uid": "u1",
        "namespace": "shop",
        "name": "metadata",
        "lrp-type": "addr",
        "frontend-type": "IP + port",
        "service-id": "",
        "skip-redirect-from-backend": False,
        "frontend-mappings": [
            {
                "frontend-address": {"ip": "169.254.169.254", "port": 80, "protocol": "TCP"},
                "backends": [
                    {"pod-id": "shop/proxy", "backend-address": {"ip": "10.0.0.1", "port": 8080, "protocol": "TCP"}}
                ],
            }
        ],
        "error": "",
    }
    assert (found["dns"]["lrp-type"], found["dns"]["skip-redirect-from-backend"]) == ("svc", True)
    assert (found["zero"]["lrp-type"], found["zero"]["error"]) == ("none", BROKEN.error)
