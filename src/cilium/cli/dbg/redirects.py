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
        click.echo(columns(HEADER, [row for document in documents for row in _lines(document)]))


def _lines(document: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    yield document["namespace"], document["name"], document["frontend-type"], document["service-id"]
    if document["error"]:
        yield "", "|", f"error: {document['error']}", ""
    for mapping in document["frontend-mappings"]:
        front = mapping["frontend-address"]
        ends = ", ".join(f"{_place(end['backend-address'])}({end['pod-id']})" for end in mapping["backends"])
        yield "", "|", f"{_place(front)}/{front['protocol']} -> {ends or 'none'}", ""


def _place(address: dict[str, Any]) -> str:
    ip, port = address["ip"], address["port"]
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
