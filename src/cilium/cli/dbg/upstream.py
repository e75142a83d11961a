"""`cilium` in the agent's container: what upstream's CLI executes there, in upstream's words.

Upstream's images have `cilium` beside `cilium-dbg` as another name for it. Here the other name speaks upstream's
dialect: its option values and the documents of its API (`models`). Everything else is `cilium-dbg`'s own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from cilium.cli.dbg import main as own
from cilium.cli.dbg import models
from cilium.cli.dbg.client import get, print_json
from cilium.cli.dbg.policy_state import policy_wait

_PATH = re.compile(r"jsonpath='?\{\$?((?:\.[\w-]+)+)\}'?")

Document = Callable[[], Any]


def answering(name: str, document: Document, fallback: click.Command | None = None) -> click.Command:
    """A command that prints a document as JSON, or by a path into it; in other formats what ``fallback`` prints."""

    @click.command(name, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
    @click.option("-o", "--output", default="")
    @click.pass_context
    def command(context: click.Context, output: str) -> None:
        if output == "json":
            print_json(document())
        elif match := _PATH.fullmatch(output):
            quote = "'" if "'" in output else ""
            click.echo(f"{quote}{find(document(), match[1])}{quote}")
        elif output or fallback is None:
            raise click.UsageError(f"output {output!r}: write json or jsonpath={{.FIELD}}")
        else:
            fallback.main(context.args, standalone_mode=False)

    command.__doc__ = fallback.help if fallback is not None else None
    return command


def find(document: Any, path: str) -> Any:
    """`.a.b` in a document. Raises click.ClickException for a field that is not there."""
    for field in path.strip(".").split("."):
        if not isinstance(document, dict) or field not in document:
            raise click.ClickException(f"{path}: no field {field}")
        document = document[field]
    return document


def policy_document() -> dict[str, Any]:
    """The policies and the revision that every endpoint of this node has reached or goes to."""
    revisions = [document["status"]["policy"]["revision"] for document in get("/endpoint")]
    return {"policy": get("/policy"), "revision": max(revisions, default=0)}


def ipcache_document() -> dict[str, list[str]]:
    from cilium.cli.dbg.bpf import ipcache_rows

    return models.ipcache(ipcache_rows())


def _version() -> dict[str, Any]:
    from importlib.metadata import version

    return models.version(version("cilium"))


def _endpoints() -> list[dict[str, Any]]:
    return [models.endpoint(document) for document in get("/endpoint") if document["status"]["kind"] != "host"]


def _services() -> list[dict[str, Any]]:
    return [models.service(document) for document in get("/service")]


def _group(name: str, *commands: click.Command) -> click.Group:
    """The group of `cilium-dbg` of that name, with some commands exchanged."""
    base = own.main.commands[name]
    assert isinstance(base, click.Group)
    made = click.Group(name, {**base.commands}, help=base.help)
    for command in commands:
        made.add_command(command)
    return made


def dialect() -> click.Group:
    """The whole command."""
    found = own.main.commands
    made = click.Group("cilium", {**found}, help=own.main.help)
    endpoint, service = found["endpoint"], found["service"]
    assert isinstance(endpoint, click.Group)
    assert isinstance(service, click.Group)
    made.add_command(answering("status", lambda: models.status(get("/healthz")), found["status"]))
    made.add_command(answering("version", _version, found["version"]))
    made.add_command(_group("endpoint", answering("list", _endpoints, endpoint.commands["list"])))
    made.add_command(_group("service", answering("list", _services, service.commands["list"])))
    made.add_command(_group("policy", answering("get", policy_document), policy_wait))
    bpf = _group("bpf")
    bpf.add_command(click.Group("ipcache", {"list": answering("list", ipcache_document)}))
    made.add_command(bpf)
    return made
