"""The commands of cilium policy: options, what is read, what is printed, with which exit status."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

import click


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of all of them."""
    for decorator in (
        click.option("--kubeconfig", help="Default: $KUBECONFIG, then ~/.kube/config."),
        click.option("--cilium-namespace", default="kube-system", show_default=True, help="Where Cilium runs."),
    ):
        command = decorator(command)
    return command


def kubeconfig_path(given: str | None) -> str:
    return given or os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")


@click.group()
def policy() -> None:
    """Network policies: why a verdict, what a change would do, and policies from traffic."""


@policy.command()
@click.option("--from", "source", default="", metavar="WHO", help="NAMESPACE/POD, workload, address, CIDR or entity.")
@click.option("--from-labels", default="", metavar="K=V,…", help="A pod with these labels, that need not exist.")
@click.option("--namespace", "-n", default="default", show_default=True, help="Of --from-labels.")
@click.option("--to", "destination", required=True, metavar="WHO",
              help="NAMESPACE/POD, workload, service, address, CIDR, entity or domain name.")  # fmt: skip
@click.option("--port", default="", metavar="PORT/PROTOCOL", help="80/TCP, http/TCP, 8/ICMP; without: all traffic.")
@click.option("--live", is_flag=True, help="Ask the kernels of the nodes too, and tell what differs.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@common
def explain(
    source: str,
    from_labels: str,
    namespace: str,
    destination: str,
    port: str,
    live: bool,
    output: str,
    kubeconfig: str | None,
    cilium_namespace: str,
) -> None:
    """Whether a connection passes, and which rules say so.

    Computed from the objects in the API, without any traffic. Exit status: 0 it passes (or would be audited), 3 it is
    denied, 4 the kernel says something else (--live), 1 an error, 2 wrong options.
    """
    from cilium.cli.cluster.policy import asking

    if bool(source) == bool(from_labels):
        raise click.UsageError("give one of --from and --from-labels")
    if live and (from_labels or not port):
        raise click.UsageError("--live needs --port, and a source that exists")
    question = asking.Question(source, from_labels, namespace, destination, port, live)
    status = asyncio.run(asking.ask(kubeconfig_path(kubeconfig), cilium_namespace, question, output))
    sys.exit(status)


@policy.command()
@click.option(
    "-f", "--file", "files", multiple=True, type=click.File(), help="Manifests to be applied; - is standard input."
)
@click.option("--delete", multiple=True, metavar="KIND/[NAMESPACE/]NAME", help="A policy to be deleted.")
@click.option("--since", default="10m", show_default=True, help="How old the flows are that are looked at; 0: none.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@common
def diff(
    files: tuple[Any, ...], delete: tuple[str, ...], since: str, output: str, kubeconfig: str | None,
    cilium_namespace: str,
) -> None:  # fmt: skip
    """What would change if policies were applied or deleted; nothing is.

    Of the flows that the nodes remember, and between all pods, nodes and CIDRs that policies tell apart. Exit status: 0
    nothing changes, 3 something does, 1 an error, 2 wrong options.
    """
    from cilium.cli.cluster.policy import diffing

    if not files and not delete:
        raise click.UsageError("give --file or --delete")
    manifests = "\n---\n".join(file.read() for file in files)
    wish = diffing.Wish(manifests, delete, "" if since == "0" else since)
    sys.exit(asyncio.run(diffing.diff(kubeconfig_path(kubeconfig), cilium_namespace, wish, output)))


@policy.command()
@click.option("--namespace", "-n", required=True, help="For whose workloads policies are written.")
@click.option("--since", default="10m", show_default=True, help="How old the flows are that are looked at.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@common
def suggest(namespace: str, since: str, output: str, kubeconfig: str | None, cilium_namespace: str) -> None:
    """Write policies that allow the traffic that was seen, and nothing else.

    One CiliumNetworkPolicy per workload, for kubectl apply. What was denied is left out and stands in a comment.
    """
    from cilium.cli.cluster.policy import suggesting

    click.echo(asyncio.run(suggesting.suggest(kubeconfig_path(kubeconfig), cilium_namespace, namespace, since, output)))
