"""cilium-dbg status."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import click

from cilium.cli.dbg.client import get, print_json


@click.command()
@click.option("--all-addresses", is_flag=True, help="Every allocated address with its owner.")
@click.option("--verbose", is_flag=True, help="Also reconcilers, tables and addresses.")
@click.option("--brief", is_flag=True, help="One word.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def status(all_addresses: bool, verbose: bool, brief: bool, output: str) -> None:
    """How the agent does."""
    document = get("/healthz")
    if output == "json":
        print_json(document)
    elif brief:
        click.echo(document["cilium"]["state"].upper().replace("OK", "OK"))
    else:
        for name, value in lines(document, verbose=verbose):
            click.echo(f"{name + ':':<24}{value}")
        if all_addresses or verbose:
            click.echo(addresses(get("/statedb/ip-allocations")))
    if document["cilium"]["state"] == "Failure":
        sys.exit(1)


def lines(document: dict[str, Any], *, verbose: bool) -> Iterable[tuple[str, str]]:
    kubernetes = document.get("kubernetes", {})
    yield "Kubernetes", f"{kubernetes.get('state', 'unknown')}   {kubernetes.get('msg', '')}".rstrip()
    yield "Cilium", f"{document['cilium']['state']}   {document['cilium']['msg']}"
    for key, title in (
        ("kube-proxy-replacement", "KubeProxyReplacement"),
        ("ipam", "IPAM"),
        ("routing", "Routing"),
        ("masquerading", "Masquerading"),
        ("policy", "Policy"),
        ("hubble", "Hubble"),
        ("cluster", "Cluster health"),
        ("datapath", "Datapath"),
    ):
        if key in document:
            yield title, str(document[key].get("msg", document[key]))
    errors = document["errors"]
    yield "Errors", "none" if not errors else f"{len(errors)}"
    for error in errors:
        yield "", error
    if verbose:
        for reconciler in document["reconcilers"]:
            counts = ", ".join(f"{count} {kind}" for kind, count in sorted(reconciler["rows"].items())) or "empty"
            pruned = "pruned" if reconciler["pruned"] else "not pruned yet"
            yield f"  {reconciler['name']}", f"{counts}; {pruned}"
        for name, count in document["tables"].items():
            yield f"  table {name}", f"{count} rows"


def addresses(allocations: list[dict[str, Any]]) -> str:
    allocated = [f"  {row['address']} ({row['owner']})" for row in allocations]
    return "\n".join(["Allocated addresses:", *allocated])
