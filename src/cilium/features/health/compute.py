"""Who is asked, how often, and what the answers say together.

In: `cilium-nodes`. Out: `health-targets`; the interval of questions; summaries of `node-health`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from cilium.features.health.rows import HealthTarget, NodeHealth
from cilium.state import RowChanges, View
from cilium.tables.kubernetes import CiliumNode

BASE_INTERVAL = 60.0
RETRY_MIN = 1.0
SETTLE = 5.0


class HealthTargets:
    """The derivation. `endpoints`: nodes' health endpoints are asked too; `families`: versions of IP in use."""

    def __init__(self, *, endpoints: bool, families: Iterable[int]) -> None:
        self._endpoints, self._families = endpoints, frozenset(families)

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        upserts: list[HealthTarget] = []
        deletes: set[tuple[str, str]] = set()
        for change in view.changes["cilium-nodes"]:
            if change.old is not None:
                deletes |= {target.key for target in self.targets(change.old)}
            if change.new is not None:
                upserts += self.targets(change.new)
        deletes -= {target.key for target in upserts}
        return {"health-targets": RowChanges(upserts=upserts, deletes=sorted(deletes))}

    def targets(self, node: CiliumNode) -> list[HealthTarget]:
        found = [HealthTarget(node.name, address, "host") for address in node.internal_ips]
        if self._endpoints:
            found += [HealthTarget(node.name, address, "endpoint") for address in node.health_ips]
        return [target for target in found if target.address.version in self._families]


def interval(nodes: int) -> float:
    """Seconds between two questions to one target: 60 ln(1 + nodes), as upstream.

    Every agent asks every node, so a fixed interval would make the questions of a cluster grow with the square of its
    size: 3 nodes are asked every 83 s, 1000 every 7 minutes.
    """
    return BASE_INTERVAL * math.log1p(max(nodes, 1))


def delay(nodes: int, *, failures: int, settled: bool) -> float:
    """Seconds until the next question: `failures` in a row so far, `settled` if the question before was answered too.

    Targets that did not answer are asked after 1, 2, 4 … s at first, so that a node that has just come, or come back,
    is not called unreachable for a minute. A first answer is asked for again soon: it took as long as a node takes
    that starts, and people read it as the latency of the network.
    """
    regular = interval(nodes)
    if failures:
        return min(regular, RETRY_MIN * 2.0 ** min(failures - 1, 16))
    return regular if settled else SETTLE


class NodeSummary(msgspec.Struct, frozen=True):
    """One node as status commands show it."""

    name: str
    host: tuple[NodeHealth, ...]
    endpoint: tuple[NodeHealth, ...]

    @property
    def reachable(self) -> bool:
        """Every address of it answered; a node that was not asked yet has not."""
        rows = (*self.host, *self.endpoint)
        return bool(rows) and all(row.ok for row in rows)


def summaries(rows: Iterable[NodeHealth]) -> list[NodeSummary]:
    """Nodes by name, addresses IPv4 first."""
    by_node: dict[str, list[NodeHealth]] = {}
    for row in sorted(rows, key=lambda row: (row.node, row.address.version, int(row.address))):
        by_node.setdefault(row.node, []).append(row)
    return [
        NodeSummary(
            name=name,
            host=tuple(row for row in found if row.kind == "host"),
            endpoint=tuple(row for row in found if row.kind == "endpoint"),
        )
        for name, found in by_node.items()
    ]
