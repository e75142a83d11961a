"""cilium: the cluster CLI."""

from __future__ import annotations

import os

import click

from cilium.cli.cluster import status
from cilium.cli.cluster.connectivity.command import connectivity
from cilium.cli.cluster.lab.command import lab
from cilium.cli.cluster.policy.commands import policy


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Cilium for a cluster: its state, its policies, its connectivity, and a lab to try it in."""


@main.command()
def version() -> None:
    """This program's version."""
    from importlib.metadata import version as package_version

    click.echo(f"cilium {package_version('cilium')}")


def run() -> None:
    """The `cilium` command. In the agent's container it is another name of `cilium-dbg`, as in upstream's images."""
    if os.environ.get("CILIUM_COMMAND") == "cilium-dbg":
        from cilium.cli.dbg.upstream import dialect

        dialect()()
    main()


main.add_command(connectivity)
main.add_command(lab)
main.add_command(status.status)
main.add_command(policy)
