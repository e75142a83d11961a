"""`cilium lab up`, `down`, `status`, `env`, `preflight`: a lab as a whole."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cilium.cli.cluster.lab.common import NAME_VARIABLE, errors, name_option, named_option, progress_since
from cilium.cli.cluster.lab.install import load_settings, start, wait_for_cilium
from cilium.cli.columns import columns

if TYPE_CHECKING:
    from kubelab.lab.status import LabStatus, NodeState
    from kubelab.underlay.addresses import Family


@click.command()
@name_option
@click.option("--nodes", default=3, show_default=True, type=click.IntRange(1), help="Number of nodes.")
@click.option("--zones", default=1, show_default=True, type=click.IntRange(1), help="Zones, in which nodes take turns.")
@click.option("--dual-stack", is_flag=True, help="IPv4 and IPv6: the default.")
@click.option("--ipv4", is_flag=True, help="IPv4 only.")
@click.option("--ipv6", is_flag=True, help="IPv6 only.")
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
    type=click.FloatRange(2.0),
    metavar="SECONDS",
    help="Silence after which a node is NotReady.",
)
@click.option(
    "--default-toleration-seconds", "toleration", default=5, show_default=True, type=click.IntRange(0),
    metavar="SECONDS",
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
    dual_stack: bool,
    ipv4: bool,
    ipv6: bool,
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

    started, families = time.monotonic(), _families(dual_stack, ipv4, ipv6)
    with errors():
        kind: Runtime = "containerd" if runtime == "containerd" else "process"
        options = LabOptions(
            nodes=nodes, zones=zones, families=families, images=images, runtime=kind, xdp=xdp,
            node_monitor_grace_period=grace, default_toleration_seconds=toleration,
        )  # fmt: skip
        settings = load_settings(values, families=options.families)
        created = Lab(name)
        start(created, settings, options, progress_since(started))
        try:
            wait_for_cilium(created, progress_since(started))
        except BaseException:
            option = named_option()
            click.echo(f"lab {name} stays for a look: cilium lab env{option}, cilium status, and the logs")
            click.echo(f"(cilium lab logs{option}); then cilium lab down{option}")
            raise
    click.echo(f"lab {name} is up: {nodes} node(s) in {time.monotonic() - started:.1f} s")
    click.echo(f'  eval "$(cilium lab env{named_option()})"    then kubectl works')


def _families(dual_stack: bool, ipv4: bool, ipv6: bool) -> tuple[Family, ...]:
    """Raises UsageError when more than one of them is given."""
    if dual_stack + ipv4 + ipv6 > 1:
        raise click.UsageError(
            "--dual-stack, --ipv4 and --ipv6 exclude each other; without any, a lab has both families"
        )
    return (4,) if ipv4 else (6,) if ipv6 else (4, 6)


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
        click.echo(f"not running: {', '.join(found.dead)} (cilium lab start{named_option()})")
        sys.exit(1)


@click.command("list")
def list_labs() -> None:
    """The labs on this machine."""
    from kubelab.lab import state
    from kubelab.lab.errors import LabError
    from kubelab.lab.status import status as status_of

    rows = []
    for path in sorted(state.ROOT.glob("*/")):
        try:
            found = status_of(state.paths(path.name))
        except LabError as error:
            rows.append((path.name, "", "", str(error)))
        else:
            rows.append((found.name, str(len(found.nodes)), found.server, _condition(found)))
    click.echo(columns(("NAME", "NODES", "API SERVER", "STATE"), rows) if rows else "no lab is up: cilium lab up")


def _condition(found: LabStatus) -> str:
    if not found.complete:
        return "half-finished: take it down"
    return f"not running: {', '.join(found.dead)}" if found.dead else "up"


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
    """Print exports for a shell: KUBECONFIG, PATH with kubectl, and the lab's name for `cilium lab`."""
    from kubelab.lab.lab import Lab

    with errors():
        for variable, value in {**Lab(name).env(), NAME_VARIABLE: name}.items():
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
