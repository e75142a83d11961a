"""`cilium lab up`, `down`, `status`, `env`, `preflight`: a lab as a whole."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cilium.cli.cluster.lab.common import errors, name_option, progress_since
from cilium.cli.cluster.lab.install import load_settings, start, wait_for_cilium
from cilium.cli.columns import columns

if TYPE_CHECKING:
    from kubelab.lab.status import LabStatus, NodeState
    from kubelab.underlay.addresses import Family

FAMILIES: dict[str, tuple[Family, ...]] = {"dual-stack": (4, 6), "ipv4": (4,), "ipv6": (6,)}


@click.command()
@name_option
@click.option("--nodes", default=3, show_default=True, type=click.IntRange(1), help="Number of nodes.")
@click.option("--zones", default=1, show_default=True, type=click.IntRange(1), help="Zones, in which nodes take turns.")
@click.option("--dual-stack", "families", flag_value="dual-stack", default=True, help="IPv4 and IPv6: the default.")
@click.option("--ipv4", "families", flag_value="ipv4", help="IPv4 only.")
@click.option("--ipv6", "families", flag_value="ipv6", help="IPv6 only.")
@click.option("--images", type=click.Path(path_type=Path), help="A file that extends the registry of stand-ins.")
@click.option(
    "--runtime", type=click.Choice(["process", "containerd"]), default="process", show_default=True,
    help="What runs containers: stand-ins as processes, or a real containerd per node.",
)  # fmt: skip
@click.option(
    "--node-monitor-grace-period",
    "grace",
    default=12.0,
    show_default=True,
    metavar="SECONDS",
    help="Silence after which a node is NotReady.",
)
@click.option(
    "--default-toleration-seconds", "toleration", default=5, show_default=True, metavar="SECONDS",
    help="How long pods stay on a node that is NotReady, unless they say so themselves.",
)  # fmt: skip
@click.option("--values", type=click.Path(path_type=Path), help="Helm values for Cilium.")
@click.option(
    "--xdp",
    is_flag=True,
    help="Programs on the nodes' devices can send, as on network cards (loadBalancer.acceleration).",
)
def up(
    name: str,
    nodes: int,
    zones: int,
    families: str,
    images: Path | None,
    runtime: str,
    grace: float,
    toleration: int,
    values: Path | None,
    xdp: bool,
) -> None:
    """Bring a lab up and wait until pods can be run."""
    from kubelab.lab.lab import Lab
    from kubelab.lab.options import LabOptions, Runtime

    started = time.monotonic()
    with errors():
        kind: Runtime = "containerd" if runtime == "containerd" else "process"
        options = LabOptions(
            nodes=nodes, zones=zones, families=FAMILIES[families], images=images, runtime=kind, xdp=xdp,
            node_monitor_grace_period=grace, default_toleration_seconds=toleration,
        )  # fmt: skip
        settings = load_settings(values, families=options.families)
        created = Lab(name)
        start(created, settings, options, progress_since(started))
        try:
            wait_for_cilium(created, progress_since(started))
        except BaseException:
            click.echo(f"lab {name} stays for a look: cilium lab env --name {name}, cilium status, and the logs")
            click.echo(f"(cilium lab logs --name {name}); then cilium lab down --name {name}")
            raise
    click.echo(f"lab {name} is up: {nodes} node(s) in {time.monotonic() - started:.1f} s")
    suffix = "" if name == "lab" else f" --name {name}"
    click.echo(f'  eval "$(cilium lab env{suffix})"    then kubectl works')


@click.command()
@name_option
def down(name: str) -> None:
    """Take a lab away, whatever state it is in; nothing is left behind."""
    from kubelab.lab.lab import Lab

    with errors():
        found = Lab(name).down()
    click.echo(f"lab {name} is down" if found else f"lab {name} was not up")


@click.command()
@name_option
def status(name: str) -> None:
    """What runs; exit status 1 if the lab is not up or something in it is not."""
    from kubelab.lab.lab import Lab

    with errors():
        found = Lab(name).status()
    if not found.present or not found.complete:
        click.echo(f"lab {name} is {'half-finished: take it down' if found.present else 'not up'}")
        sys.exit(1)
    _show(found)
    if found.dead:
        click.echo(f"not running: {', '.join(found.dead)}")
        sys.exit(1)


def _show(found: LabStatus) -> None:
    click.echo(f"lab {found.name}: API server {found.server}, networks {', '.join(found.subnets)}")
    rows = [(node.name, ", ".join(node.addresses), node.zone, _kubelet(node)) for node in found.nodes]
    click.echo(columns(("NODE", "ADDRESSES", "ZONE", "KUBELET"), rows))
    for one, other in found.cuts:
        click.echo(f"cut: {one} - {other}")


def _kubelet(node: NodeState) -> str:
    if node.stopped:
        return "node stopped"
    return "running" if node.kubelet else "not running"


@click.command()
@name_option
def env(name: str) -> None:
    """Print exports for a shell: KUBECONFIG, and PATH with kubectl."""
    from kubelab.lab.lab import Lab

    with errors():
        for variable, value in Lab(name).env().items():
            click.echo(f"export {variable}={shlex.quote(value)}")


@click.command()
def preflight() -> None:
    """Whether this machine can carry a lab; what it lacks is named with the way out."""
    from kubelab.lab.preflight import preflight as find

    findings = find()
    for finding in findings:
        click.echo(f"{'ok  ' if finding.ok else 'LACK'}  {finding.need}")
        if not finding.ok:
            click.echo(f"      {finding.problem}: {finding.remedy}")
    sys.exit(0 if all(finding.ok for finding in findings) else 1)
