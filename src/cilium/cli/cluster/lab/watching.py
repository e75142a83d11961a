"""`cilium lab logs` and `top`: what a lab's components say and cost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cilium.cli.cluster.lab.common import errors, name_option
from cilium.cli.columns import columns
from cilium.cli.hubble.times import duration

if TYPE_CHECKING:
    from kubelab.lab.lab import Lab
    from kubelab.lab.usage import Usage

PODS = {"agent": "k8s-app=cilium", "operator": "io.cilium/app=operator", "dns": "k8s-app=kube-dns"}
"""Components that are pods: their labels in kube-system."""
MIB = 1 << 20


def _span(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    try:
        return duration(value) if value is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@name_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written.")
@click.option("--tail", type=click.IntRange(0), metavar="LINES", help="The last lines of each log only.")
@click.option("--since", callback=_span, metavar="DURATION", help="Only what is younger: 30s, 5m, 1h30m.")
@click.argument("component", required=False, metavar="[COMPONENT|NODE]")
def logs(name: str, follow: bool, tail: int | None, since: timedelta | None, component: str | None) -> None:
    """Logs of the control plane, the kubelets and the world; of one COMPONENT or NODE, if named.

    Components: control-plane, external, kubelet-NODE; agent, operator and dns are pods in kube-system, whose logs
    kubectl shows. A NODE stands for its kubelet.
    """
    from kubelab.lab import log_files
    from kubelab.lab.lab import Lab

    with errors():
        lab = Lab(name)
        if component in PODS:
            raise SystemExit(_pod_logs(lab, PODS[component], follow, tail, since))
        chosen = _chosen(lab, component)
    width = max(map(len, chosen)) if len(chosen) > 1 else 0
    begin = datetime.now(UTC) - since if since is not None else None
    lines = (log_files.follow if follow else log_files.last)(chosen, tail, begin)
    try:
        for process, line in lines:
            click.echo(f"{process:{width}} | {line}" if width else line)
    except KeyboardInterrupt:
        pass


def _chosen(lab: Lab, component: str | None) -> dict[str, Path]:
    from kubelab.lab.errors import LabError

    status = lab.status()
    if not status.present:
        raise LabError(f"lab {lab.name} is not up")
    known = {process: lab.log_path(process) for process in status.processes}
    if component is None:
        return known
    for process in (component, f"kubelet-{component}"):
        if process in known:
            return {process: known[process]}
    raise LabError(f"{component}: lab {lab.name} has {', '.join([*known, *PODS])}")


def _pod_logs(lab: Lab, selector: str, follow: bool, tail: int | None, since: timedelta | None) -> int:
    words = ["kubectl", "-n", "kube-system", "logs", "-l", selector, "--prefix", "--max-log-requests=100"]
    words.append(f"--tail={-1 if tail is None else tail}")
    words += ["-f"] if follow else []
    words += [f"--since={since.total_seconds()}s"] if since is not None else []
    return subprocess.run(words, env={**os.environ, **lab.env()}, check=False).returncode


@click.command()
@name_option
@click.option("--interval", default=1.0, show_default=True, help="Seconds over which CPU time is counted.")
@click.option("--containers", is_flag=True, help="A row for each container, instead of one for all of its name.")
def top(name: str, interval: float, containers: bool) -> None:
    """CPU and memory of each component: control plane, kubelets, agents, operator, pods.

    CPU is in parts of one core. Memory is the proportional set size: what several share is shared out among them.
    """
    from kubelab.lab.lab import Lab

    if interval <= 0:
        raise click.BadParameter("more than 0 seconds", param_hint="--interval")
    with errors():
        rows = Lab(name).usage(interval)
    click.echo(table(rows, containers=containers))


def table(rows: Iterable[Usage], *, containers: bool) -> str:
    """Components, the dearest first, and their sum."""
    found = list(rows)
    groups: dict[tuple[str, str, str], list[Usage]] = {}
    for row in found:
        key = (row.component, row.node, row.pod) if containers else (row.component, "", "")
        groups.setdefault(key, []).append(row)
    ordered = sorted(groups.items(), key=lambda item: -sum(row.memory for row in item[1]))
    lines = [(*(key if containers else key[:1]), *_figures(members)) for key, members in ordered]
    total = ("total", *(("", "") if containers else ()), *_figures(found))
    places = ("NODE", "POD") if containers else ()
    return columns(("COMPONENT", *places, "PROCESSES", "CPU", "MEMORY"), [*lines, total])


def _figures(rows: list[Usage]) -> tuple[str, str, str]:
    cpu, memory = sum(row.cpu for row in rows), sum(row.memory for row in rows)
    return str(sum(row.processes for row in rows)), f"{cpu:.1%}", f"{memory / MIB:.0f}Mi"
