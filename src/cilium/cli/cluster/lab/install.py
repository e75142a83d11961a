"""Cilium into a lab, as into any cluster.

In: a user's values. Out: settings, the manifests that they become, a lab in which pods can be run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cilium.settings import Settings
    from kubelab.lab.lab import Lab
    from kubelab.lab.options import LabOptions

LAB_VALUES: dict[str, Any] = {
    "kubeProxyReplacement": True,
    "bpf": {
        "ctTcpMax": 65536,
        "ctAnyMax": 32768,
        "natMax": 65536,
        "lbServiceBackendMapMax": 16384,
        "lbSockRevMapMax": 16384,
    },
}
"""A lab has no kube-proxy, and its nodes share one machine's memory: tables are sized for a try-out. A values file
overrides it."""
AGENT_SELECTOR = "labelSelector=k8s-app%3Dcilium"
MAX_RESTARTS = 3
"""So often an agent may end while it is waited for: what is wrong then does not heal by waiting."""


def bring_up(lab: Lab, settings: Settings, options: LabOptions) -> None:
    """A lab with Cilium in which pods can be run. What was made stays if it fails. Raises LabError, SettingsError."""
    start(lab, settings, options, progress=lambda _: None)
    wait_for_cilium(lab, lambda _: None)


def start(lab: Lab, settings: Settings, options: LabOptions, progress: Callable[[str], None]) -> None:
    """A lab with Cilium's manifests applied; with cluster DNS where Services have addresses that pods can reach.

    Raises LabError, SettingsError.
    """
    options = replace(options, dns=settings.services.replacement)
    lab.up(options, manifests=lambda made: install(settings, made.status().subnets), progress=progress)


def load_settings(
    values: Path | None, defaults: Mapping[str, Any] | None = None, *, families: Collection[int] = (4, 6)
) -> Settings:
    """The user's values over `defaults`, the lab's and those of its families.

    Raises SettingsError with every problem of the file, also when it wants a family that the lab does not have.
    """
    from cilium.settings import from_values, read_values

    given: dict[str, Any] = read_values(values) if values is not None else {}
    lacking = {f"ipv{family}": {"enabled": False} for family in (4, 6) if family not in families}
    refuse_families(given, lacking, str(values))
    ours = {**LAB_VALUES, **(defaults or {}), **lacking}
    bpf = given.get("bpf")
    merged = {**ours, **given, **({"bpf": LAB_VALUES["bpf"] | bpf} if isinstance(bpf, dict) else {})}
    return from_values(merged, source=str(values or "the lab's values"))


def refuse_families(given: Mapping[str, Any], lacking: Collection[str], source: str) -> None:
    """A lab without a family cannot have pods with it. Raises SettingsError."""
    from cilium.settings import Problem, SettingsError

    wanted = [family for family in lacking if isinstance(given.get(family), dict) and given[family].get("enabled")]
    if wanted:
        remedy = "remove the setting, or bring the lab up with that family"
        problems = [Problem(f"{family}.enabled", "the lab does not have this family", remedy) for family in wanted]
        raise SettingsError(source, problems)


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


def wait_for_cilium(lab: Lab, progress: Callable[[str], None], nodes: Collection[str] = ()) -> None:
    """Until an agent is ready on these nodes, and they with it; without `nodes`, on all that are not stopped.

    Raises LabError when they are not in time, and at once when one ends again and again.
    """
    from kubelab.lab.api import is_ready
    from kubelab.lab.errors import LabError

    progress("waiting for the Cilium agents")
    api = lab.api()
    wanted = set(nodes) or {node.name for node in lab.status().nodes if not node.stopped}
    earlier: dict[str, int] = {}  # restarts of each agent that were before, by losses of power for instance

    def ready(items: list[dict[str, Any]]) -> bool:
        for item in items:
            restarts = _restarts(item) - earlier.setdefault(item["metadata"]["uid"], _restarts(item))
            if item["spec"].get("nodeName") in wanted and not is_ready(item) and restarts >= MAX_RESTARTS:
                raise LabError(f"the agent on {item['spec']['nodeName']} ends at its start: {_last_words(api, item)}")
        return wanted <= {item["spec"].get("nodeName") for item in items if is_ready(item)}

    path = f"/api/v1/namespaces/kube-system/pods?{AGENT_SELECTOR}"
    api.wait(path, ready, 90, f"readiness of {len(wanted)} Cilium agents")
    progress("waiting for the nodes")
    lab.wait_ready(wanted)


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
