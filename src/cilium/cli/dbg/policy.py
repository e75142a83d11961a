"""cilium-dbg policy: what this node makes of policy objects, and what their rules count."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from cilium.cli.columns import columns
from cilium.cli.dbg.client import get, print_json
from cilium.cli.dbg.render import output
from cilium.tables.names import object_name


@click.group()
def policy() -> None:
    """Policies this node enforces."""


@policy.command("get")
@click.argument("name", required=False)
@click.option("-n", "--namespace", help="Policies of this namespace only.")
@output
def policy_get(name: str | None, namespace: str | None, output: str) -> None:
    """Policy objects: valid or not, what of them is not enforced, and what their rules let through or dropped.

    With NAME also the rules as they were loaded, with namespaces, entities and references resolved.
    """
    documents = [
        document
        for document in get("/policy")
        if name in (None, document["name"]) and namespace in (None, document["namespace"])
    ]
    if name is not None and not documents:
        where = f" in namespace {namespace}" if namespace else ""
        raise click.ClickException(f"there is no policy {name}{where}; see cilium-dbg policy get")
    if output == "json":
        print_json(documents)
        return
    click.echo(columns(("POLICY", "VALID", "REVISION", "MESSAGE"), map(_object, documents)))
    rules = [row for document in documents for row in _rules(document)]
    if rules:
        click.echo()
        click.echo(columns(("POLICY", "RULE", "PACKETS", "BYTES"), rules))
    for document in documents if name is not None else ():
        click.echo(f"\n{_name(document)}, revision {document['revision']}:")
        print_json(document["spec"])


def _object(document: dict[str, Any]) -> tuple[object, ...]:
    unenforced = (f"not enforced: {path}" for path in document["unenforced"])
    audit = ["in audit mode"] if document["audit"] else []
    message = document["error"] or "; ".join([*audit, *document["warnings"], *unenforced])
    return _name(document), "yes" if document["valid"] else "no", document["revision"], message


def _rules(document: dict[str, Any]) -> Iterable[tuple[object, ...]]:
    """One line per element of a section; numbers that nobody keeps are a dash."""
    several = any(rule["spec"] for rule in document["rules"])
    for rule in document["rules"]:
        place = f"specs[{rule['spec']}]." if several else ""
        numbers = ("-" if rule[unit] is None else rule[unit] for unit in ("packets", "bytes"))
        yield _name(document), f"{place}{rule['section']}[{rule['index']}]", *numbers


def _name(document: dict[str, Any]) -> str:
    return object_name(document["kind"], document["namespace"], document["name"])
