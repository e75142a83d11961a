"""`cilium-health`: whether this node reaches the others, in upstream's words (api/v1/health/models).

In: what the agent knows of its neighbours. Out: every path with a status, which is empty if all is well.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import click

from cilium.cli.dbg.client import get

Document = dict[str, Any]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Whether this node reaches the others."""


@main.command()
@click.option("--probe", is_flag=True, help="Ask every node now; without, what the agent was answered last.")
@click.option("-o", "--output", type=click.Choice(["", "json"]), default="", help="json: the document of its API.")
def status(probe: bool, output: str) -> None:
    """Every node, and how long its answers took."""
    rows = get("/statedb/node-health")
    document = statuses(asyncio.run(_asked(rows, _port())) if probe else rows)
    if output == "json":
        click.echo(json.dumps(document, indent=2))
        return
    for node in document["nodes"]:
        click.echo(f"{node['name']}:")
        for part in ("host", "health-endpoint"):
            for path in paths(node.get(part) or {}):
                said = path["http"]["status"] or f"OK, {path['http']['latency'] / 1e6:.1f} ms"
                click.echo(f"  {part:<16} {path['ip']:<40} {said}")


def _port() -> int:
    return int(get("/config")["cluster-health-port"])


async def _asked(rows: Iterable[Mapping[str, Any]], port: int) -> list[Document]:
    """The same rows, with answers of now: as the agent asks, from where it asks."""
    from cilium.features.health.prober import HttpAsk

    ask = HttpAsk(port=port)

    async def one(row: Mapping[str, Any]) -> Document:
        start, error = time.monotonic(), ""
        try:
            await ask(ip_address(row["address"]))
        except OSError as failure:
            error = failure.strerror or str(failure) or type(failure).__name__
        last = datetime.now(UTC).isoformat(timespec="seconds")
        return {**row, "ok": not error, "error": error, "rtt": time.monotonic() - start, "last": last}

    return list(await asyncio.gather(*map(one, rows)))


def statuses(rows: Iterable[Mapping[str, Any]]) -> Document:
    """HealthStatusResponse, of rows of `node-health`."""
    nodes: dict[str, dict[str, list[Document]]] = {}
    for row in rows:
        part = "host" if row["kind"] == "host" else "health-endpoint"
        nodes.setdefault(row["node"], {}).setdefault(part, []).append(_path(row))
    return {
        "nodes": [
            {"name": name, **{part: _addresses(found) for part, found in parts.items()}}
            for name, parts in sorted(nodes.items())
        ]
    }


def _addresses(found: list[Document]) -> Document:
    found.sort(key=lambda path: ":" in path["ip"])
    return {"primary-address": found[0], **({"secondary-addresses": found[1:]} if found[1:] else {})}


def _path(row: Mapping[str, Any]) -> Document:
    """We ask by HTTP only."""
    status = "" if row["ok"] else row["error"] or "no answer"
    return {
        "ip": row["address"],
        "http": {"latency": int(row["rtt"] * 1e9), "status": status, "last-probed": row["last"]},
    }


def paths(part: Mapping[str, Any]) -> list[Document]:
    return [path for path in (part.get("primary-address"), *(part.get("secondary-addresses") or ())) if path]
