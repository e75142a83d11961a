"""`cilium lab snapshot` and `restore`: the API's objects in a file, and back."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cilium.cli.cluster.lab.common import errors, name_option

OURS = ("ciliumnodes", "ciliumendpoints", "ciliumidentities")
"""Resources of Cilium that tell what runs."""
SETTINGS = ("ConfigMap kube-system/cilium-config",)
"""What a lab was brought up with; another one has its own, and its own families."""


@click.command()
@name_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def snapshot(name: str, file: Path) -> None:
    """Write what is in the API to FILE: YAML, or a JSON object per line if it ends in .json or .jsonl.

    What nodes and controllers make of it is left out: Nodes, Events, Leases, Endpoints, pods of controllers, status.
    """
    from kubelab.lab.lab import Lab
    from kubelab.lab.snapshot import take, write

    with errors():
        objects = take(Lab(name).api(), leave=OURS, but=SETTINGS)
        write(file, objects)
    click.echo(f"{len(objects)} objects of lab {name} are in {file}")


@click.command()
@name_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def restore(name: str, file: Path) -> None:
    """Create or update in the API what `snapshot` wrote; exit status 1 if an object is refused, which is named.

    What is not in FILE stays as it is.
    """
    from kubelab.lab.lab import Lab
    from kubelab.lab.restore import restore as again
    from kubelab.lab.snapshot import read

    with errors():
        objects = read(file)
        done = again(Lab(name).api(), objects, click.echo)
    counts = f"{len(done.created)} created, {len(done.updated)} updated, {len(done.unchanged)} unchanged"
    click.echo(f"{counts}{f', {len(done.failed)} refused' if done.failed else ''}")
    sys.exit(1 if done.failed else 0)
