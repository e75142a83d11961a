"""`cilium lab node`: commands in nodes, and nodes that join, fail, come back and leave."""

from __future__ import annotations

import sys
import time

import click

from cilium.cli.cluster.lab.common import complete_lab, complete_node, errors, name_option, progress_since
from cilium.cli.cluster.lab.install import wait_for_cilium

node_name_option = click.option("--name", help="Name of the lab.", shell_complete=complete_lab)


class NodeGroup(click.Group):
    """A first word that is no subcommand is a node, in which the rest is run."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["exec", *args]
        return super().resolve_command(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS]", "NODE -- COMMAND... | SUBCOMMAND [ARGS]..."]


@click.group(cls=NodeGroup)
@name_option
@click.pass_context
def node(ctx: click.Context, name: str) -> None:
    """Run a command in a node: cilium lab node node1 -- ip route. Or change the lab's nodes.

    The node `external` is the world outside of the cluster: cilium lab node external -- curl ADDRESS.
    """
    ctx.obj = name


@node.command("exec", context_settings={"ignore_unknown_options": True})
@node_name_option
@click.argument("node", shell_complete=complete_node)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def execute(lab: str, name: str | None, node: str, command: tuple[str, ...]) -> None:
    """Run a command in a node's namespaces; the word `exec` may be left out."""
    from kubelab.lab.lab import Lab

    with errors():
        sys.exit(Lab(name or lab).node_exec(node, command))


@node.command()
@node_name_option
@click.option("--zone", default="", help="The node's zone; without it, nodes take turns.")
@click.pass_obj
def add(lab: str, name: str | None, zone: str) -> None:
    """A new node joins the lab and gets Cilium."""
    from kubelab.lab.lab import Lab

    started = time.monotonic()
    with errors():
        found = Lab(name or lab)
        added = found.add_node(zone=zone, progress=progress_since(started))
        wait_for_cilium(found, progress_since(started), {added})
    click.echo(f"{added} is ready")


@node.command()
@node_name_option
@click.argument("node", shell_complete=complete_node)
@click.pass_obj
def stop(lab: str, name: str | None, node: str) -> None:
    """Cut a node's power: all that runs on it ends at once, its disk stays.

    Seconds later the node is NotReady, and its pods are started elsewhere.
    """
    from kubelab.lab.lab import Lab

    with errors():
        fresh = Lab(name or lab).stop_node(node, progress=progress_since(time.monotonic()))
    click.echo(f"{node} is stopped" if fresh else f"{node} was stopped already")


@node.command()
@node_name_option
@click.argument("node", shell_complete=complete_node)
@click.pass_obj
def start(lab: str, name: str | None, node: str) -> None:
    """Boot a node that was stopped, and wait until it is ready."""
    from kubelab.lab.lab import Lab

    started = time.monotonic()
    with errors():
        found = Lab(name or lab)
        found.start_node(node, progress=progress_since(started))
        wait_for_cilium(found, progress_since(started), {node})
    click.echo(f"{node} is ready")


@node.command()
@node_name_option
@click.argument("node", shell_complete=complete_node)
@click.option("--force", is_flag=True, help="Without draining it: its pods are lost.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds for its pods to leave.")
@click.pass_obj
def delete(lab: str, name: str | None, node: str, force: bool, timeout: float) -> None:
    """Drain a node, take it out of the cluster and away; a stopped one without draining."""
    from kubelab.lab.lab import Lab

    with errors():
        progress = progress_since(time.monotonic())
        Lab(name or lab).delete_node(node, force=force, timeout=timeout, progress=progress)
    click.echo(f"{node} is gone")
