"""cilium-dbg lrp: local redirect policies as the agent of this node follows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from cilium.cli.columns import columns
from cilium.cli.dbg.client import get, print_json
from cilium.cli.dbg.render import output

HEADER = ("LRP namespace", "LRP name", "FrontendType", "Matching Service")


@click.group()
def lrp() -> None:
    """Local redirect policies of this node."""


@lrp.command("list")
@output
def lrp_list(output: str) -> None:
    """Every policy, with the addresses that it redirects and the pods that answer; none: nothing is redirected here."""
    documents = get("/lrp")
    if output == "json":
        print_json(documents)
    else:
        click.echo("\n".join(_table(documents)))


def _table(documents: list[dict[str, Any]]) -> Iterator[str]:
    """Policies in columns; below each what it means, which is no part of the columns and does not widen them."""
    rows = [(each["namespace"], each["name"], each["frontend-type"], each["service-id"]) for each in documents]
    header, *lines = columns(HEADER, rows).splitlines()
    yield header
    for line, document in zip(lines, documents, strict=True):
        yield line
        yield from (f"  | {detail}" for detail in _details(document))


def _details(document: dict[str, Any]) -> Iterator[str]:
    if document["error"]:
        yield f"error: {document['error']}"
    for mapping in document["frontend-mappings"]:
        front = mapping["frontend-address"]
        ends = ", ".join(f"{_place(end['backend-address'])}({end['pod-id']})" for end in mapping["backends"])
        yield f"{_place(front)}/{front['protocol']} -> {ends or 'none'}"


def _place(address: dict[str, Any]) -> str:
    ip, port = address["ip"], address["port"]
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
