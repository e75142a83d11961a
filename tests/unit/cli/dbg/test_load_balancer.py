"""cilium-dbg bpf lb: what it says of the maps, without an agent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from unit.features.services.mapped import World, changed, end, outside, ranges, row

from cilium.cli.dbg.main import main
from cilium.datapath.addresses import address_bytes
from cilium.datapath.errors import ObjectError
from cilium.datapath.fakes import FakeMap
from cilium.datapath.generated import AFFINITY_ENTRY, AFFINITY_KEY, AffinityKind

Ask = Callable[..., Any]
INSIDE = changed(row("10.96.0.1"), end("10.0.0.1"), end("10.0.0.2", terminating=True))
NOBODY = row("fd96::1")
OUTSIDE = outside("192.0.2.1", "10.0.0.1", **ranges("10.0.0.0/8"), affinity_timeout=60)
TABLE = outside("2001:db8::1", "fd00::1", "fd00::2")


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Rows of a view by field."""
    world = World()
    assert not world.update(INSIDE, NOBODY, msgspec.structs.replace(OUTSIDE, source_deny=True), TABLE)
    affinity = FakeMap("cilium_lb_affinity")
    keys, values = np.zeros(2, AFFINITY_KEY), np.zeros(2, AFFINITY_ENTRY)
    keys["service"], keys["kind"] = world.id(OUTSIDE), [AffinityKind.ADDRESS, AffinityKind.SOCKET]
    keys["client"][0] = np.frombuffer(address_bytes(INSIDE.backends[0].address), np.uint8)
    keys["client"][1][8:] = np.frombuffer((4711).to_bytes(8, "little"), np.uint8)
    values["backend"] = world.number_of("10.0.0.1"), 11
    values["used"] = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    affinity.update(keys, values)
    maps = world.maps | {"cilium_lb_affinity": affinity, "cilium_lb_maglev": world.tables}

    def opened(name: str) -> Any:
        if name not in maps:
            raise ObjectError(f"map {name} is not pinned")
        return maps[name]

    monkeypatch.setattr("cilium.datapath.maps.PinnedMap", opened)
    monkeypatch.setattr("cilium.datapath.nested.Nested", lambda port: port)

    def asked(*words: str) -> Any:
        result = CliRunner().invoke(main, ["bpf", "lb", *words, "-o", "json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    return asked


def columns(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(each[name] for name in names) for each in rows]


def test_services_with_their_backends(ask: Ask) -> None:
    assert columns(ask("list"), "service-address", "scope", "backend-address", "slot") == [
        ("10.96.0.1:80/TCP", "cluster", "10.0.0.1:8080/TCP", 1),
        ("192.0.2.1:80/TCP", "external", "10.0.0.1:8080/TCP", 1),
        ("[2001:db8::1]:80/TCP", "external", "[fd00::1]:8080/TCP", 1),
        ("[2001:db8::1]:80/TCP", "external", "[fd00::2]:8080/TCP", 2),
        ("[fd96::1]:80/TCP", "cluster", "none", "-"),
    ]


def test_frontends(ask: Ask) -> None:
    found = columns(ask("list", "--frontends"), "service-address", "backends", "affinity", "flags")
    assert found == [
        ("10.96.0.1:80/TCP", 1, "-", "-"),
        ("192.0.2.1:80/TCP", 1, "60s", "source_check,source_deny"),
        ("[2001:db8::1]:80/TCP", 2, "-", "maglev"),
        ("[fd96::1]:80/TCP", 0, "-", "-"),
    ]


def test_backends_with_those_that_only_keep_what_they_have(ask: Ask) -> None:
    found = columns(ask("list", "--backends"), "address", "state", "slots")
    assert sorted(found) == [
        ("10.0.0.1:8080/TCP", "active", 1),
        ("10.0.0.2:8080/TCP", "terminating", 0),
        ("[fd00::1]:8080/TCP", "active", 1),
        ("[fd00::2]:8080/TCP", "active", 1),
    ]


def test_source_ranges(ask: Ask) -> None:
    found = columns(ask("list", "--source-ranges"), "service-address", "policy", "cidr")
    assert found == [("192.0.2.1:80/TCP external", "deny", "10.0.0.0/8")]


def test_affinity(ask: Ask) -> None:
    found = ask("list", "--affinity")
    assert sorted(columns(found, "client", "service-address", "backend-address")) == [
        ("10.0.0.1", "192.0.2.1:80/TCP external", "10.0.0.1:8080/TCP"),
        ("netns 4711", "192.0.2.1:80/TCP external", "gone"),
    ]
    assert all(each["seconds-ago"] < 60 for each in found)


def test_maglev(ask: Ask) -> None:
    found = ask("list", "--maglev")
    assert {each["backend-address"] for each in found} == {"[fd00::1]:8080/TCP", "[fd00::2]:8080/TCP"}
    assert sorted(each["entries"] for each in found) == [125, 126]
    (whole,) = ask("maglev", "list")
    assert len(whole["table"]) == 251
    assert ask("maglev", "get", str(whole["id"])) == whole


def test_maglev_for_people(ask: Ask) -> None:
    run = CliRunner()
    lines = run.invoke(main, ["bpf", "lb", "maglev", "list"]).output.splitlines()
    number, entries, backends = lines[1].split()
    assert (entries, backends) == ("251", "2")
    text = run.invoke(main, ["bpf", "lb", "maglev", "get", number]).output
    assert (text[0], len(text.split()), text[-2:]) == ("[", 251, "]\n")


def test_a_service_without_a_table(ask: Ask) -> None:
    result = CliRunner().invoke(main, ["bpf", "lb", "maglev", "get", "77"])
    assert result.exit_code == 1
    assert "service 77 has no Maglev table; see cilium-dbg bpf lb maglev list" in result.output


@pytest.mark.parametrize("words", [("list", "--revnat")])
def test_a_map_that_is_not_there(ask: Ask, words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, ["bpf", "lb", *words])
    assert result.exit_code == 1
    assert "map cilium_lb_reverse is not pinned" in result.output
