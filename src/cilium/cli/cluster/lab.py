"""cilium lab: a Kubernetes of several nodes on this machine, with Cilium installed as on any cluster.

The only place where Cilium and kubelab meet: settings become manifests, manifests are given to the lab.
"""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cilium.cli.columns import columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cilium.settings import Settings
    from kubelab.lab.lab import Lab
    from kubelab.lab.options import LabOptions, Runtime

name_option = click.option("--name", default="lab", show_default=True, help="Name of the lab.")

LAB_VALUES: dict[str, Any] = {
    "bpf": {
        "ctTcpMax": 65536,
        "ctAnyMax": 32768,
        "natMax": 65536,
        "lbServiceBackendMapMax": 16384,
        "lbSockRevMapMax": 16384,
    }
}
"""Several nodes share one machine's memory: tables are sized for a try-out. A values file overrides it."""
AGENT_SELECTOR = "labelSelector=k8s-app%3Dcilium"
MAX_RESTARTS = 3
"""So often an agent may end before it was ready: what is wrong then does not heal by waiting."""


@click.group()
def lab() -> None:
    """A Kubernetes of several nodes on this machine, made of namespaces."""


@lab.command()
@name_option
@click.option("--nodes", default=3, show_default=True, type=click.IntRange(1), help="Number of nodes.")
@click.option("--values", type=click.Path(path_type=Path), help="Helm values for Cilium.")
@click.option(
    "--xdp",
    is_flag=True,
    help="Programs on the nodes' devices can send, as on network cards (loadBalancer.acceleration).",
)
@click.option(
    "--runtime",
    default="process",
    show_default=True,
    type=click.Choice(("process", "containerd")),
    help="What runs containers: processes of this machine, or containerd and runc with images from files.",
)
def up(name: str, nodes: int, values: Path | None, xdp: bool, runtime: Runtime) -> None:
    """Bring a lab up and wait until pods can be run."""
    from kubelab.lab.lab import Lab
    from kubelab.lab.options import LabOptions

    started = time.monotonic()
    with errors():
        options = LabOptions(nodes=nodes, xdp=xdp, runtime=runtime)
        settings = load_settings(values)
        created = Lab(name)
        _start(created, settings, options, _progress(started))
        try:
            _wait_for_cilium(created, nodes, _progress(started))
        except BaseException:
            click.echo(f"lab {name} stays for a look: cilium lab env --name {name}, cilium status, and the logs")
            click.echo(f"(kubectl -n kube-system logs ds/cilium); then cilium lab down --name {name}")
            raise
    click.echo(f"lab {name} is up: {nodes} node(s) in {time.monotonic() - started:.1f} s")
    suffix = "" if name == "lab" else f" --name {name}"
    click.echo(f'  eval "$(cilium lab env{suffix})"    then kubectl works')


@lab.command()
@name_option
def down(name: str) -> None:
    """Take a lab away, whatever state it is in; nothing is left behind."""
    from kubelab.lab.lab import Lab

    with errors():
        found = Lab(name).down()
    click.echo(f"lab {name} is down" if found else f"lab {name} was not up")


@lab.command()
@name_option
def status(name: str) -> None:
    """What runs; exit status 1 if the lab is not up or something in it is not."""
    from kubelab.lab.lab import Lab

    with errors():
        found = Lab(name).status()
    if not found.present or not found.complete:
        click.echo(f"lab {name} is {'half-finished: take it down' if found.present else 'not up'}")
        sys.exit(1)
    click.echo(f"lab {name}: API server {found.server}, networks {', '.join(found.subnets)}")
    rows = [(node.name, ", ".join(node.addresses), "running" if node.kubelet else "stopped") for node in found.nodes]
    click.echo(columns(("NODE", "ADDRESSES", "KUBELET"), rows))
    if found.dead:
        click.echo(f"not running: {', '.join(found.dead)}")
        sys.exit(1)


@lab.command()
@name_option
def env(name: str) -> None:
    """Print exports for a shell: KUBECONFIG, and PATH with kubectl."""
    from kubelab.lab.lab import Lab

    with errors():
        for variable, value in Lab(name).env().items():
            click.echo(f"export {variable}={shlex.quote(value)}")


@lab.command(context_settings={"ignore_unknown_options": True})
@name_option
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def node(name: str, node: str, command: tuple[str, ...]) -> None:
    """Run a command in a node's namespaces: cilium lab node node1 -- ip route.

    The node `external` is the world outside of the cluster: cilium lab node external -- curl ADDRESS.
    """
    from kubelab.lab.lab import Lab

    with errors():
        sys.exit(Lab(name).node_exec(node, command))


@lab.command()
def preflight() -> None:
    """Whether this machine can carry a lab; what it lacks is named with the way out."""
    from kubelab.lab.preflight import preflight as find

    findings = find()
    for finding in findings:
        click.echo(f"{'ok  ' if finding.ok else 'LACK'}  {finding.need}")
        if not finding.ok:
            click.echo(f"      {finding.problem}: {finding.remedy}")
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


def bring_up(lab: Lab, settings: Settings, options: LabOptions) -> None:
    """A lab with Cilium in which pods can be run. What was made stays if it fails. Raises LabError, SettingsError."""
    _start(lab, settings, options, progress=lambda _: None)
    _wait_for_cilium(lab, options.nodes, lambda _: None)


def _start(lab: Lab, settings: Settings, options: LabOptions, progress: Callable[[str], None]) -> None:
    lab.up(options, manifests=lambda made: install(settings, made.status().subnets), progress=progress)


def load_settings(values: Path | None, defaults: dict[str, Any] | None = None) -> Settings:
    """The user's values over `defaults` and the lab's. Raises SettingsError with every problem of the file."""
    from cilium.settings import from_values, read_values

    given: dict[str, Any] = read_values(values) if values is not None else {}
    ours = LAB_VALUES | (defaults or {})
    bpf = given.get("bpf")
    merged = ours | given | {"bpf": LAB_VALUES["bpf"] | bpf} if isinstance(bpf, dict) else ours | given
    return from_values(merged, source=str(values or "the lab's values"))


def install(settings: Settings, networks: Iterable[str]) -> Iterable[dict[str, Any]]:
    """What `cilium install` applies to any cluster: CRDs first, then our own objects.

    Raises SettingsError for pools that overlap the lab's own networks.
    """
    from cilium.api import crds
    from cilium.api.install import manifests

    refuse_overlaps(settings, [ip_network(network) for network in networks])
    return [*crds.load(), *manifests(settings)]


def refuse_overlaps(settings: Settings, networks: Collection[IPv4Network | IPv6Network]) -> None:
    """Pods must not have addresses of the network between nodes. Raises SettingsError."""
    from cilium.settings import IpamMode, Problem, SettingsError

    if settings.ipam.mode is not IpamMode.CLUSTER_POOL:
        return
    pools: list[IPv4Network | IPv6Network] = [*settings.ipam.ipv4_pools, *settings.ipam.ipv6_pools]
    problems = [
        Problem(
            f"ipam.operator.clusterPoolIPv{pool.version}PodCIDRList",
            f"{pool} overlaps {network}, the network between the nodes",
            "choose another pool",
        )
        for pool in pools
        for network in networks
        if pool.version == network.version and pool.overlaps(network)
    ]
    if problems:
        raise SettingsError("this lab", problems)


@contextmanager
def errors() -> Iterator[None]:
    """Turns the errors that people can mend into one message and exit status 1."""
    from cilium.settings import SettingsError
    from kubelab.lab.errors import LabError

    try:
        yield
    except (LabError, SettingsError) as error:
        notes = "\n".join(getattr(error, "__notes__", []))
        raise click.ClickException(f"{error}\n{notes}".rstrip()) from None


def _progress(started: float) -> Callable[[str], None]:
    def show(text: str) -> None:
        click.echo(f"{time.monotonic() - started:5.1f} s  {text}")

    return show


def _wait_for_cilium(created: Any, nodes: int, progress: Callable[[str], None]) -> None:
    """Raises LabError when agents are not ready in time, and at once when one ends again and again."""
    from kubelab.lab.errors import LabError

    progress("waiting for the Cilium agents")
    api = created.api()

    def ready(items: list[dict[str, Any]]) -> bool:
        for item in items:
            if not _is_ready(item) and _restarts(item) >= MAX_RESTARTS:
                raise LabError(f"the agent on {item['spec']['nodeName']} ends at its start: {_last_words(api, item)}")
        return len(items) >= nodes and all(_is_ready(item) for item in items)

    path = f"/api/v1/namespaces/kube-system/pods?{AGENT_SELECTOR}"
    api.wait(path, ready, 90, f"readiness of {nodes} Cilium agents")
    progress("waiting for the nodes")
    created.wait_ready()


def _restarts(pod: dict[str, Any]) -> int:
    states = (pod.get("status") or {}).get("containerStatuses") or []
    return sum(int(state.get("restartCount", 0)) for state in states)


def _last_words(api: Any, pod: dict[str, Any]) -> str:
    """The error that the agent logged when it ended the last time."""
    from kubelab.lab.errors import LabError

    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/log"
    try:
        log = str(api.get(f"{path}?previous=true&tailLines=50").get("message", ""))
    except LabError as error:
        return f"its log cannot be read: {error}"
    return error_in(log)


def error_in(log: str) -> str:
    """The last error of a log in text format, without its traceback."""
    found = re.findall(r'level=error .*?\berror=("(?:[^"\\]|\\.)*"|\S+)', log)
    return found[-1].strip('"').replace('\\"', '"') if found else "its log names no error"


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
