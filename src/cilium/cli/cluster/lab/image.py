"""cilium lab image: images for labs whose nodes run containerd."""

from __future__ import annotations

from pathlib import Path

import click

from cilium.cli.cluster.lab.common import errors, name_option
from cilium.cli.columns import columns


@click.group()
def image() -> None:
    """Images of a lab whose nodes run containerd (cilium lab up --runtime containerd)."""


@image.command()
@name_option
@click.argument("tar", type=click.Path(path_type=Path))
@click.option("--tag", metavar="IMAGE", help="Name of the image, for a tar that names none or another one.")
def load(name: str, tar: Path, tag: str | None) -> None:
    """Give all nodes the images of a tar, as docker save writes it or as an OCI layout."""
    from kubelab.lab.lab import Lab

    with errors():
        for loaded in Lab(name).load_image(tar, tag):
            click.echo(f"loaded {loaded}")


@image.command("list")
@name_option
def list_images(name: str) -> None:
    """What was loaded, and which nodes have it."""
    from kubelab.lab.lab import Lab

    with errors():
        found = Lab(name).images()
    rows = [(image.name, image.digest.removeprefix("sha256:")[:12], ", ".join(image.nodes)) for image in found]
    click.echo(columns(("IMAGE", "DIGEST", "NODES"), rows) if rows else "no image yet: cilium lab image load TAR")


@image.command("rm")
@name_option
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
def remove(name: str, images: tuple[str, ...]) -> None:
    """Take images from all nodes. Containers that run go on; those that start wait until it is loaded again."""
    from kubelab.lab.lab import Lab

    with errors():
        for wanted in images:
            click.echo(f"removed {Lab(name).remove_image(wanted)}")
