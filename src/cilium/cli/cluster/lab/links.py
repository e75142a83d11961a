"""`cilium lab cut` and `heal`: links between nodes, broken and mended."""

from __future__ import annotations

import click

from cilium.cli.cluster.lab.common import errors, name_option


@click.command()
@name_option
@click.argument("one", metavar="END")
@click.argument("other", metavar="END")
def cut(name: str, one: str, other: str) -> None:
    """Break the link between two nodes: nothing passes any more, in neither direction.

    An end may also be `external`, the world, or `control-plane`, the API server.
    """
    from kubelab.lab.lab import Lab

    with errors():
        fresh = Lab(name).cut(one, other)
    click.echo(f"{one} and {other} {'are cut off from each other' if fresh else 'were cut off already'}")


@click.command()
@name_option
@click.argument("ends", metavar="[END END]", nargs=-1)
def heal(name: str, ends: tuple[str, ...]) -> None:
    """Mend the link between two ends; without ends, all links."""
    from kubelab.lab.lab import Lab

    if len(ends) not in (0, 2):
        raise click.UsageError("name both ends of a link, or none")
    with errors():
        mended = Lab(name).heal(*ends)
    for one, other in mended:
        click.echo(f"{one} and {other} reach each other again")
    if not mended:
        click.echo("nothing was cut" if not ends else f"{ends[0]} and {ends[1]} were not cut off from each other")
