"""What the cluster under test can do, as its agents and settings tell it.

In: agents. Out: `Features`: families, and the names of features that tests require.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cilium.connectivity.suite.actors import Node, Object, Pod
from cilium.connectivity.suite.cluster import Cluster, SuiteError

RUNTIME = ("cat", "/var/run/cilium/state/agent-runtime-config.json")
VERSION = ("cilium", "version", "-o", "jsonpath={$.Daemon.Version}")
NAMES = (
    "icmp-policy", "l7-proxy", "host-firewall", "host-port", "health-checking", "cidr-match-nodes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Features:
    """`enabled`: those of NAMES that are on."""

    version: str
    families: tuple[int, ...]
    enabled: frozenset[str]

    def lacking(self, required: list[str]) -> str:
        """The first of them that is off."""
        return next((name for name in required if name not in self.enabled), "")


async def detect(cluster: Cluster, agent: Pod, namespace: str) -> Features:
    """Raises SuiteError."""
    found = await cluster.find("ConfigMap", "cilium-config", namespace)
    if found is None:
        raise SuiteError(f"ConfigMap {namespace}/cilium-config is not there: is Cilium installed in this namespace?")
    runtime = await cluster.document(agent, RUNTIME)
    status = await cluster.document(agent, ("cilium", "status", "-o", "json"))
    version = await cluster.run(agent, VERSION)
    return read(found.get("data") or {}, runtime, status, version.stdout.strip().strip("'"))


def read(config: Object, runtime: Object, status: Object, version: str) -> Features:
    """Pure: from cilium-config, the agent's runtime configuration, its status."""
    families = tuple(family for family in (4, 6) if config.get(f"enable-ipv{family}") == "true")
    replacement = (status.get("kube-proxy-replacement") or {}).get("features") or {}
    firewall = (status.get("host-firewall") or {}).get("mode", "Disabled")
    on = {
        "icmp-policy": bool(runtime.get("EnableICMPRules")),
        "l7-proxy": bool(status.get("proxy")),
        "host-firewall": firewall.lower() != "disabled",
        "host-port": _enabled(replacement, "hostPort") or (status.get("cni-chaining") or {}).get("mode") == "portmap",
        "health-checking": bool(runtime.get("EnableHealthChecking") and runtime.get("EnableEndpointHealthChecking")),
        "cidr-match-nodes": "nodes" in config.get("policy-cidr-match-mode", "").split(),
    }
    return Features(version, families, frozenset(name for name in NAMES if on[name]))


def _enabled(features: Object, name: str) -> bool:
    part: Any = features.get(name) or {}
    return bool(part.get("enabled"))


def single_node(nodes: tuple[Node, ...]) -> bool:
    """Whether pods cannot be put on two nodes with Cilium."""
    return sum(node.cilium for node in nodes) < 2
