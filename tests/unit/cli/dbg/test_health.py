"""`cilium-health status`: rows of the agent become upstream's document."""

from __future__ import annotations

from typing import Any

from cilium.cli.dbg.health import statuses


def row(node: str, address: str, kind: str, error: str = "") -> dict[str, Any]:
    return {
        "node": node,
        "address": address,
        "kind": kind,
        "ok": not error,
        "rtt": 0.001,
        "error": error,
        "last": "now",
    }


def test_addresses_of_a_node_are_sorted_into_its_paths() -> None:
    rows = [
        row("n2", "fd00::2", "host"),
        row("n2", "192.0.2.2", "host", "no answer"),
        row("n2", "10.0.0.9", "endpoint"),
    ]
    document = statuses([*rows, row("n1", "192.0.2.1", "host")])
    assert [node["name"] for node in document["nodes"]] == ["n1", "n2"]
    host = document["nodes"][1]["host"]
    assert host["primary-address"]["ip"] == "192.0.2.2"
    assert host["primary-address"]["http"] == {"latency": 1_000_000, "status": "no answer", "last-probed": "now"}
    assert [path["http"]["status"] for path in host["secondary-addresses"]] == [""]
    assert "secondary-addresses" not in document["nodes"][1]["health-endpoint"]
    assert "health-endpoint" not in document["nodes"][0]
