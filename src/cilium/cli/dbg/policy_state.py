"""cilium-dbg policy verdict, selectors, wait: what the engine of this node holds and has reached."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlencode

import click

from cilium.cli.dbg.client import get, print_json
from cilium.cli.dbg.render import output, show


@click.command("verdict")
@click.option("--endpoint", required=True, metavar="ID|NAMESPACE/POD|ADDRESS", help="Whose policy is asked.")
@click.option("--direction", required=True, type=click.Choice(["ingress", "egress"]))
@click.option("--peer", default="", metavar="ADDRESS", help="The other end.")
@click.option("--identity", default="", metavar="ID", help="The other end, by its security identity.")
@click.option("--protocol", required=True, metavar="TCP|UDP|SCTP|ICMP|ICMPv6")
@click.option("--port", required=True, metavar="PORT", help="The destination's port; for ICMP the type.")
@output
def policy_verdict(
    endpoint: str, direction: str, peer: str, identity: str, protocol: str, port: str, output: str
) -> None:
    """What the kernel says of one direction of a connection, read as the datapath reads it."""
    if bool(peer) == bool(identity):
        raise click.UsageError("give one of --peer and --identity")
    who = {"peer": peer} if peer else {"identity": identity}
    question = {"endpoint": endpoint, "direction": direction, **who, "protocol": protocol, "port": port}
    document = get(f"/policy/verdict?{urlencode(question)}")
    if output == "json":
        print_json(document)
        return
    rule = f" ({document['rule']})" if document["rule"] else ""
    click.echo(f"{document['verdict']}: {document['reason']}{rule}")
    labels = ",".join(document["labels"]) or "no labels known"
    numbers = f"endpoint {document['endpoint']}, policy {document['policy-id']}, identity {document['identity']}"
    click.echo(f"{numbers} ({labels})")


@click.command("selectors")
@output
def policy_selectors(output: str) -> None:
    """The peers that rules select, by which policies, and whose identities they are."""
    documents = get("/policy/selectors")
    if output == "json":
        print_json(documents)
        return
    header = ("SELECTOR", "LABELS", "USERS", "IDENTITIES")
    rows = [
        (each["selector"], ",".join(each["labels"]), each["users"], ",".join(map(str, each["identities"])) or "-")
        for each in documents
    ]
    show(output, header, rows)


@click.command("wait")
@click.argument("revision", type=int)
@click.option("--max-wait-time", default=360.0, show_default=True, help="Seconds, then exit status 1.")
@click.option("--sleep-time", default=0.1, show_default=True, help="Seconds between two looks.")
def policy_wait(revision: int, max_wait_time: float, sleep_time: float) -> None:
    """Wait until the kernel enforces a policy revision on every endpoint of this node."""
    deadline = time.monotonic() + max_wait_time
    while behind := _behind(revision):
        if time.monotonic() >= deadline:
            raise click.ClickException(f"not within {max_wait_time:g} s: {'; '.join(behind)}")
        time.sleep(min(sleep_time, max_wait_time))
    click.echo(f"revision {revision} is enforced")


def _behind(revision: int) -> list[str]:
    """Endpoints that answer to an older revision, in words; the node itself has no policy."""
    documents: list[dict[str, Any]] = get("/endpoint")
    return [
        f"endpoint {document['id']} is at revision {document['status']['policy']['revision']}"
        for document in documents
        if document["status"]["kind"] != "host" and document["status"]["policy"]["revision"] < revision
    ]
