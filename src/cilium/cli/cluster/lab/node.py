"""`cilium lab node`: commands in nodes."""

from __future__ import annotations

import sys

import click

from cilium.cli.cluster.lab.common import errors, name_option


@click.command(context_settings={"ignore_unknown_options": True})
@name_option
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def node(name: str, node: str, command: tuple[str, ...]) -> None:
    """Run a command in a node's namespaces: cilium lab node node1 -- ip route.

    The node `external` is the world outside of the cluster: cilium lab node external -- curl ADDRESS.
    """
    from kubelab.lab.lab import Lab

    with errors():
        sys.exit(Lab(name).node_exec(node, command))
