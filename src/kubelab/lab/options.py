"""What a lab is told when it is brought up: one frozen, validated value, recorded with the lab.

In: fields by name. Out: what control plane, nodes and kubelets are configured with. Raises LabError naming the field
and the way out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, get_args

from kubelab.lab.errors import LabError
from kubelab.underlay.addresses import MAX_NODES, Family, Network

Runtime = Literal["process", "containerd"]

POD_CIDRS = (("10.244.0.0/16", 24), ("fd00:10:244::/48", 64))
"""Pools and the prefix length of each node's block."""
SERVICE_CIDRS = ("10.96.0.0/16", "fd00:10:96::/112")
MIN_GRACE = 2.0
NAME_SERVER = 10
"""Which address of a service range the cluster's name server has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabOptions:
    """How a lab is made. What is given for a family that the lab does not have is left aside."""

    nodes: int = 3
    zones: int = 1  # nodes take turns in them
    families: tuple[Family, ...] = (4, 6)  # of everything in the lab, the primary first
    images: Path | None = None  # extends the registry of stand-ins
    runtime: Runtime = "process"
    xdp: bool = False  # programs on the nodes' devices can send, as on network cards
    node_monitor_grace_period: float = 12.0  # seconds of silence after which a node is not ready
    default_toleration_seconds: int = 5  # for which pods stay on a node that is not ready
    dns: bool = False  # the cluster has name servers of its own, which pods ask
    pod_cidrs: tuple[tuple[str, int], ...] = POD_CIDRS
    service_cidrs: tuple[str, ...] = SERVICE_CIDRS

    def __post_init__(self) -> None:
        problems = [*self._problems()]
        if problems:
            raise LabError("; ".join(problems))

    def zone(self, number: int) -> str:
        """The zone of node `number` (from 1)."""
        return f"zone{(number - 1) % self.zones + 1}"

    @property
    def pod_ranges(self) -> tuple[tuple[Network, int], ...]:
        """Pods' pools with the prefix length of a node's block, one per family of the lab."""
        found = {ip_network(pool).version: (ip_network(pool), length) for pool, length in self.pod_cidrs}
        return tuple(found[family] for family in self.families)

    @property
    def service_ranges(self) -> tuple[Network, ...]:
        """One per family of the lab."""
        found = {network.version: network for network in map(ip_network, self.service_cidrs)}
        return tuple(found[family] for family in self.families)

    @property
    def heartbeat(self) -> float:
        """Seconds between the signs of life of a kubelet: several may be late before it counts as silent."""
        return min(self.node_monitor_grace_period / 4, 10.0)

    @property
    def name_servers(self) -> tuple[str, ...]:
        """Cluster IPs of the cluster's name servers; none when it has none."""
        return tuple(str(network[NAME_SERVER]) for network in self.service_ranges) if self.dns else ()

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "images": None if self.images is None else str(self.images)}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> LabOptions:
        """Raises KeyError, TypeError, LabError."""
        lists = {
            "families": tuple(raw["families"]),
            "service_cidrs": tuple(raw["service_cidrs"]),
            "pod_cidrs": tuple((pool, length) for pool, length in raw["pod_cidrs"]),
            "images": None if raw["images"] is None else Path(raw["images"]),
        }
        return cls(**{**raw, **lists})

    def _problems(self) -> Iterable[str]:
        if not 1 <= self.nodes <= MAX_NODES:
            yield f"nodes: {self.nodes}: a lab has 1 to {MAX_NODES} nodes"
        elif not 1 <= self.zones <= self.nodes:
            yield f"zones: {self.zones}: a lab of {self.nodes} node(s) has 1 to {self.nodes} zones"
        if not self.families or len(set(self.families)) < len(self.families) or not {4, 6}.issuperset(self.families):
            yield f"families: {self.families}: 4, 6, or both, the primary first"
            return
        if self.runtime not in get_args(Runtime):
            yield f"runtime: {self.runtime!r}: one of {', '.join(get_args(Runtime))}"
        if self.node_monitor_grace_period < MIN_GRACE:
            yield f"node_monitor_grace_period: {self.node_monitor_grace_period}: at least {MIN_GRACE} seconds"
        if self.default_toleration_seconds < 0:
            yield f"default_toleration_seconds: {self.default_toleration_seconds}: not a number of seconds"
        yield from _range_problems("pod_cidrs", [pool for pool, _ in self.pod_cidrs], self.families)
        yield from _range_problems("service_cidrs", self.service_cidrs, self.families)
        for pool, length in self.pod_cidrs:
            if (
                _network(pool) is not None
                and not ip_network(pool).prefixlen <= length <= ip_network(pool).max_prefixlen
            ):
                yield f"pod_cidrs: {pool}: blocks of prefix length {length} are not in it"


def _range_problems(field: str, ranges: Iterable[str], families: Iterable[int]) -> Iterable[str]:
    versions: list[int] = []
    for text in ranges:
        if (network := _network(text)) is None:
            yield f"{field}: {text!r}: not a network, like 10.96.0.0/16"
        else:
            versions.append(network.version)
    for family in families:
        if versions.count(family) != 1:
            yield f"{field}: {versions.count(family)} of IPv{family}: give one of each family of the lab"


def _network(text: str) -> Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None
