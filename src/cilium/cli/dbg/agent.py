"""cilium-dbg endpoint, identity, ip, node, statedb, config, version: what the agent's tables hold."""

from __future__ import annotations

import json
from typing import Any

import click

from cilium.cli.columns import columns
from cilium.cli.dbg.client import get, print_json
from cilium.cli.dbg.render import output, show


def _addresses(document: dict[str, Any]) -> tuple[str, str]:
    pair = document["status"]["networking"]["addressing"][0]
    return pair.get("ipv4", ""), pair.get("ipv6", "")


@click.group()
def endpoint() -> None:
    """Endpoints of this node."""


@endpoint.command("list")
@output
def endpoint_list(output: str) -> None:
    """All endpoints, one per line."""
    documents = get("/endpoint")
    if output == "json":
        print_json(documents)
        return
    rows = []
    for document in documents:
        state = document["status"]
        identity = state["identity"] or {"id": "", "labels": []}
        ipv4, ipv6 = _addresses(document)
        rows.append(
            (
                document["id"],
                state["policy"]["ingress"]["state"],
                state["policy"]["egress"]["state"],
                identity["id"],
                state["external-identifiers"]["pod-name"] or f"({state['kind']})",
                ipv6,
                ipv4,
                state["state"],
                ",".join(identity["labels"]),
            )
        )
    header = ("ENDPOINT", "INGRESS", "EGRESS", "IDENTITY", "POD", "IPv6", "IPv4", "STATUS", "LABELS")
    show(output, header, rows)


@endpoint.command("get")
@click.argument("name", metavar="ID|NAMESPACE/POD|ADDRESS")
def endpoint_get(name: str) -> None:
    """One endpoint, whole, as JSON."""
    print_json(get(f"/endpoint/{name}") if name.isdecimal() else find_endpoint(get("/endpoint"), name))


def find_endpoint(documents: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The endpoint of a pod or an address. Raises click.ClickException if there is none."""
    wanted = name.removeprefix("pod-name:").replace(":", "/", 1) if name.startswith("pod-name:") else name
    for document in documents:
        state = document["status"]
        addresses = state["networking"]["addressing"][0].values()
        if wanted == state["external-identifiers"]["pod-name"] or wanted in addresses or wanted == state["kind"]:
            return document
    raise click.ClickException(f"no endpoint of this node is {name}; see cilium-dbg endpoint list")


@click.group()
def identity() -> None:
    """Security identities known to this node."""


@identity.command("list")
@output
def identity_list(output: str) -> None:
    """All identities with their labels."""
    documents = sorted(get("/identity"), key=lambda document: int(document["id"]))
    if output == "json":
        print_json(documents)
        return
    rows = [(document["id"], document["source"], ",".join(document["labels"])) for document in documents]
    show(output, ("ID", "SOURCE", "LABELS"), rows)


@identity.command("get")
@click.argument("number", metavar="ID", type=int)
def identity_get(number: int) -> None:
    """One identity, as JSON."""
    print_json(get(f"/identity/{number}"))


@click.group()
def ip() -> None:
    """Addresses and their identities."""


@ip.command("list")
@output
def ip_list(output: str) -> None:
    """Every address and CIDR this node knows."""
    documents = get("/ip")
    if output == "json":
        print_json(documents)
        return
    rows = [
        (d["cidr"], d["identity"], d["hostIP"] or "-", d["metadata"]["source"], d["metadata"]["name"])
        for d in documents
    ]
    show(output, ("IP", "IDENTITY", "BEHIND", "SOURCE", "OWNER"), rows)


@click.group()
def node() -> None:
    """Nodes of the cluster."""


@node.command("list")
@output
def node_list(output: str) -> None:
    """Every node with its addresses and pod CIDRs."""
    documents = get("/cluster/nodes")
    if output == "json":
        print_json(documents)
        return
    rows = [
        (
            d["name"] + (" (localhost)" if d["local"] else ""),
            ",".join(d["internal-ips"]),
            ",".join(d["router-ips"]),
            ",".join(d["health-ips"]) or "-",
            ",".join(d["pod-cidrs"]),
        )
        for d in documents
    ]
    show(output, ("NAME", "ADDRESSES", "ROUTER", "HEALTH", "POD CIDRS"), rows)


@click.command()
@click.argument("table", required=False)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def statedb(table: str | None, output: str) -> None:
    """Any table of the agent; without TABLE, the list of tables."""
    documents = get(f"/statedb/{table}" if table else "/statedb")
    if output == "json":
        print_json(documents)
        return
    names: list[str] = []
    for document in documents:
        names += [name for name in document if name not in names]
    rows = [[_cell(document.get(name, "")) for name in names] for document in documents]
    click.echo(columns([name.upper() for name in names], rows) if documents else f"{table}: no rows")


def _cell(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


@click.command()
@output
def config(output: str) -> None:
    """The settings the agent runs with, and where each is from."""
    document = get("/config")
    if output == "json":
        print_json(document)
        return
    origins = get("/config/origins")
    rows = [(key, value, _origin(key, origins)) for key, value in sorted(document.items())]
    click.echo(columns(("KEY", "VALUE", "ORIGIN"), rows))


def _origin(key: str, origins: dict[str, str]) -> str:
    """A file of the mounted ConfigMap, a CiliumNodeConfig, a variable, a flag."""
    return origins.get(key, "default").removesuffix(f": {key}")


@click.command()
def version() -> None:
    """The agent's version and this program's."""
    from importlib.metadata import version as package_version

    click.echo(f"Client: {package_version('cilium')}")
    click.echo(f"Daemon: {get('/healthz')['version']}")
