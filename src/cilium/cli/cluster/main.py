"""cilium: the cluster CLI."""

from __future__ import annotations

import click

from cilium.cli.cluster import lab, lab_image, status
from cilium.cli.cluster.policy.commands import policy
from cilium.cli.cluster.policy_test import command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Cilium for a cluster: its state, its policies, and a lab to try it in."""


@main.command()
def version() -> None:
    """This program's version."""
    from importlib.metadata import version as package_version

    click.echo(f"cilium {package_version('cilium')}")


lab.lab.add_command(command.test)
lab.lab.add_command(lab_image.image)
main.add_command(lab.lab)
main.add_command(status.status)
main.add_command(policy)
