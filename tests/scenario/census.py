"""What a lab holds, counted: everything that pods leave traces in, on every node and in the API.

For tests that make and remove many pods: what is counted before must be counted again afterwards. Descriptors and
memory of the long-running processes are counted too, apart, because they may grow by what caches and allocators keep.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scenario.cluster import Cluster
from scenario.node import AGENT, OPERATOR, LabNode

from kubelab.lab import state

TABLES = (
    "endpoints", "endpoint-identities", "endpoint-policies", "endpoint-map", "endpoint-map-status",
    "endpoint-objects", "endpoint-objects-status", "ip-allocations", "ipcache", "ipcache-status", "attachments",
    "attachments-status", "devices", "routes", "cilium-endpoints", "policies", "policy-status", "policy-map-status",
    "identity-requests", "identity-requests-status", "pods",
)  # fmt: skip
MAPS = ("cilium_lxc", "cilium_ipcache", "cilium_ipcache_cidr", "cilium_policy", "cilium_policy_class")
PLACES = {
    "pins": "/sys/fs/bpf",
    "state": "/var/run/cilium/state",
    "network namespaces": "/var/run/netns",
    "kubelet's pods": "/var/lib/kubelet/pods",
    "attachments remembered": "/var/lib/cni/results",
}
KINDS = ("pods", "ciliumendpoints", "replicasets", "endpointslices")


@dataclass(frozen=True)
class Usage:
    """What one process takes."""

    descriptors: int
    threads: int
    rss: int  # bytes

    @classmethod
    def of(cls, pid: int) -> Usage:
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return cls(
            descriptors=sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
            threads=int(fields["Threads"]),
            rss=int(fields["VmRSS"].split()[0]) * 1024,
        )


def census(cluster: Cluster, nodes: Iterable[str]) -> dict[str, int]:
    """Counts by what is counted; equal before and after a pod came and went."""
    found = {f"API: {kind}": len(cluster.get(kind, "-A")["items"]) for kind in KINDS}
    for node in nodes:
        found |= {f"{node}: {name}": count for name, count in _of_node(LabNode(cluster, node)).items()}
    return found


def differences(before: dict[str, int], after: dict[str, int]) -> dict[str, tuple[int, int]]:
    return {
        name: (before.get(name, 0), after.get(name, 0))
        for name in before.keys() | after.keys()
        if before.get(name, 0) != after.get(name, 0)
    }


def _of_node(node: LabNode) -> dict[str, int]:
    tables = {row["name"]: row["rows"] for row in json.loads(node.dbg("statedb", "-o", "json"))}
    listed = (line.split() for line in node.dbg("map", "list").splitlines())
    maps = {words[0]: int(words[-2]) for words in listed if words[0] in MAPS}
    script = "; ".join(f"find {path} -mindepth 1 -maxdepth 3 2>/dev/null | wc -l" for path in PLACES.values())
    counts = node.cluster.node(node.name, "sh", "-c", f"ip -o link | wc -l; {script}").split()
    return {
        **{f"table {name}": tables[name] for name in TABLES},
        **{f"map {name}": maps[name] for name in MAPS},
        **dict(zip(("links", *PLACES), map(int, counts), strict=True)),
        "cgroups": sum(1 for path in node.cgroup.rglob("*") if path.is_dir()),
    }


def usage(cluster: Cluster, nodes: Iterable[str]) -> dict[str, Usage]:
    """Of every long-running process of the lab, by name."""
    recorded = state.paths(cluster.name).read()
    assert recorded is not None
    pids = {name: pid for name, (pid, _) in recorded.pids.items()}
    for name in nodes:
        node = LabNode(cluster, name)
        pids |= {f"agent-{name}": pid for pid in node.pids(AGENT)}
        for pid in node.pids(OPERATOR):
            pids["operator"] = pid
    return {name: Usage.of(pid) for name, pid in pids.items()}
