"""cilium-dbg service: what the agent wants, with the kernel's ids."""

from __future__ import annotations

from typing import Any

import click

from cilium.cli.columns import columns
from cilium.cli.dbg.client import get, print_json
from cilium.cli.dbg.render import output


@click.group()
def service() -> None:
    """Services of this node."""


@service.command("list")
@output
def service_list(output: str) -> None:
    """Every address with its backends."""
    documents = get("/service")
    if output == "json":
        print_json(documents)
        return
    rows: list[tuple[object, ...]] = []
    for each in documents:
        front = each["frontend"]
        owner = f"{each['namespace']}/{each['name']}" + (f":{each['port-name']}" if each["port-name"] else "")
        lines = _backends(each["backends"]) or ["none"]
        affinity = [f"affinity:{each['affinity-timeout']}s"] if each["affinity-timeout"] else []
        said = ",".join([*each["flags"], *affinity]) or "-"
        rows.append((each["id"] or "-", _place(front), each["scope"], each["type"], said, owner, lines[0]))
        rows += [("", "", "", "", "", "", line) for line in lines[1:]]
    click.echo(columns(("ID", "FRONTEND", "SCOPE", "SERVICE TYPE", "FLAGS", "SERVICE", "BACKEND"), rows))


@service.command("get")
@click.argument("number", metavar="ID", type=int)
def service_get(number: int) -> None:
    """One service's address, whole."""
    found = [each for each in get("/service") if each["id"] == number]
    if not number or not found:
        raise click.ClickException(f"service {number} does not exist; see cilium-dbg service list")
    print_json(found[0])


def _place(front: dict[str, Any]) -> str:
    ip, port = front["ip"], front["port"]
    return f"[{ip}]:{port}/{front['protocol']}" if ":" in ip else f"{ip}:{port}/{front['protocol']}"


def _backends(ends: list[dict[str, Any]]) -> list[str]:
    """A line for each; weights where they differ."""
    weighted = len({end["weight"] for end in ends}) > 1
    return [_backend(number, end, weighted) for number, end in enumerate(ends, 1)]


def _backend(number: int, end: dict[str, Any], weighted: bool) -> str:
    ip = f"[{end['ip']}]" if ":" in end["ip"] else end["ip"]
    weight = f", weight {end['weight']}" if weighted else ""
    return f"{number} => {ip}:{end['port']} ({end['state']}{weight})"
