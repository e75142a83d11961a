"""cilium-dbg service against an agent's real API: ids out of the kernel's map, and rows that are not there yet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from unit.cli.dbg.agent_api import Served, agent
from unit.features.services.mapped import World

from cilium.cli.dbg.main import main
from cilium.state import Table
from cilium.tables.services import REDIRECT_SUFFIX, Algorithm, Backend, Forwarding, Frontend, Scope

Run = Callable[..., Result]


def row(ip: str, *ends: str, terminating: bool = False) -> Frontend:
    backends = tuple(Backend(ip_address(end), 8080, terminating, "n1") for end in ends)
    return Frontend(ip_address(ip), 80, "TCP", "shop/web", "http", "ClusterIP", backends, ("shop/late",))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    inspection: Any = agent()
    frontends: Table[Any, Frontend] = Table("frontends", key=lambda each: each.key)
    weighted = (Backend(ip_address("10.0.0.8"), 8080, weight=2), Backend(ip_address("10.0.0.9"), 8080, weight=0))
    outside = msgspec.structs.replace(
        row("192.0.2.1"), backends=weighted, scope=Scope.EXTERNAL, kind="LoadBalancer", algorithm=Algorithm.MAGLEV,
        affinity_timeout=60, source_ranges=(ip_network("10.0.0.0/8"),), source_deny=True, forwarding=Forwarding.DSR,
    )  # fmt: skip
    rows = [
        row("10.96.0.1", "10.0.0.1", "10.0.0.2"), row("fd96::1", "fd00::1", terminating=True), outside,
        msgspec.structs.replace(
            row("10.96.0.3"), service="shop/dns" + REDIRECT_SUFFIX, rivals=("shop/late" + REDIRECT_SUFFIX,)
        ),
    ]  # fmt: skip
    frontends.writer("test").commit(upserts=rows, deletes=[])
    world = World()
    world.update(*rows[:3])
    inspection.add_tables([frontends])
    inspection.maps["cilium_lb_services"] = world.services
    monkeypatch.setenv("CILIUM_SOCK", str(tmp_path / "cilium.sock"))
    with Served(inspection, tmp_path / "cilium.sock"):
        yield lambda *words: CliRunner().invoke(main, words)


def test_services_as_table(run: Run) -> None:
    result = run("service", "list")
    assert result.exit_code == 0, result.output
    assert [line.split() for line in result.output.splitlines()[1:]] == [
        ["1", "10.96.0.1:80/TCP", "cluster", "ClusterIP", "-", "shop/web:http", "1", "=>", "10.0.0.1:8080", "(active)"],
        ["2", "=>", "10.0.0.2:8080", "(active)"],
        [
            "2",
            "[fd96::1]:80/TCP",
            "cluster",
            "ClusterIP",
            "-",
            "shop/web:http",
            "1",
            "=>",
            "[fd00::1]:8080",
            "(terminating)",
        ],
        [
            "3",
            "192.0.2.1:80/TCP",
            "external",
            "LoadBalancer",
            "source_check,source_deny,maglev,dsr,affinity:60s",
            "shop/web:http",
            "1",
            "=>",
            "10.0.0.8:8080",
            "(active,",
            "weight",
            "2)",
        ],
        ["2", "=>", "10.0.0.9:8080", "(maintenance,", "weight", "0)"],
        ["-", "10.96.0.3:80/TCP", "cluster", "ClusterIP", "-", "shop/dns:http", "none"],
    ], "what the kernel does not have yet has no id"


def test_redirects_bear_the_names_of_their_policies(run: Run) -> None:
    (found,) = (each for each in json.loads(run("service", "list", "-o", "json").output) if not each["id"])
    assert (found["namespace"], found["name"], found["rivals"]) == ("shop", "dns", ["shop/late"])


def test_one_service_whole(run: Run) -> None:
    found = json.loads(run("service", "get", "1").output)
    assert found["frontend"] == {"ip": "10.96.0.1", "port": 80, "protocol": "TCP"}
    assert found["scope"] == "cluster"
    assert [end["ip"] for end in found["backends"]] == ["10.0.0.1", "10.0.0.2"]
    assert found["rivals"] == ["shop/late"]


def test_what_is_said_of_a_service(run: Run) -> None:
    found = json.loads(run("service", "get", "3").output)
    said = (
        "scope",
        "type",
        "algorithm",
        "forwarding-mode",
        "affinity-timeout",
        "source-ranges",
        "source-ranges-policy",
    )
    assert [found[name] for name in said] == ["external", "LoadBalancer", "maglev", "dsr", 60, ["10.0.0.0/8"], "deny"]
    assert [(end["state"], end["weight"]) for end in found["backends"]] == [("active", 2), ("maintenance", 0)]
    inside = json.loads(run("service", "get", "1").output)
    assert [inside[name] for name in said] == ["cluster", "ClusterIP", "random", "snat", 0, [], "allow"]


@pytest.mark.parametrize("number", ["0", "77"])
def test_a_service_that_does_not_exist(run: Run, number: str) -> None:
    result = run("service", "get", number)
    assert result.exit_code == 1
    assert f"service {number} does not exist; see cilium-dbg service list" in result.output
