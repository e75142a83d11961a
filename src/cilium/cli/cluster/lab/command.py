"""cilium lab: a Kubernetes of several nodes on this machine, with Cilium installed as on any cluster.

The only place where Cilium and kubelab meet: settings become manifests, manifests are given to the lab.
"""

from __future__ import annotations

import click

from cilium.cli.cluster.lab import components, image, life, links, node, snapshots, watching
from cilium.cli.cluster.lab.testing import test


@click.group()
def lab() -> None:
    """A Kubernetes of several nodes on this machine, made of namespaces."""


for command in (
    life.up,
    life.down,
    life.status,
    life.list_labs,
    life.env,
    life.preflight,
    components.start,
    components.stop,
    node.node,
    image.image,
    links.cut,
    links.heal,
    snapshots.snapshot,
    snapshots.restore,
    watching.logs,
    watching.top,
    test,
):
    lab.add_command(command)
