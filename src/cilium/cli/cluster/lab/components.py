"""`cilium lab stop` and `start`: the lab's own daemons, ended on purpose and started again."""

from __future__ import annotations

import click

from cilium.cli.cluster.lab.common import complete_component, errors, name_option


@click.command()
@name_option
@click.option("--kill", is_flag=True, help="By SIGKILL, as a crash ends it.")
@click.argument("component", shell_complete=complete_component)
def stop(name: str, kill: bool, component: str) -> None:
    """End one of the lab's daemons: control-plane, external or kubelet-NODE. Containers and packets go on.

    To take the lab away: cilium lab down. To cut a node's power: cilium lab node stop.
    """
    from kubelab.lab.lab import Lab

    with errors():
        ended = Lab(name).stop(component, kill=kill)
    click.echo(f"{component} {'is stopped' if ended else 'did not run'}")


@click.command()
@name_option
@click.argument("component", required=False, default="", shell_complete=complete_component)
def start(name: str, component: str) -> None:
    """Start a daemon that was stopped or ended by itself; without COMPONENT, all that should run."""
    from kubelab.lab.lab import Lab

    with errors():
        started = Lab(name).start(component)
    for process in started:
        click.echo(f"{process} runs")
    if not started:
        click.echo(f"{component} runs already" if component else f"all of lab {name} runs already")
