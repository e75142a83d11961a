"""Which CiliumEndpoints have lost their pod (run by the operator).

A node removes the objects of its own pods; this is for those of nodes that went away.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from cilium.tables.kubernetes import CiliumEndpoint


class EndpointCollector:
    """An object goes when its pod was missing in two rounds: watches of two kinds do not advance together."""

    def __init__(self) -> None:
        self._missing: set[str] = set()

    def collect(self, *, endpoints: Iterable[CiliumEndpoint], pods: Set[str]) -> list[CiliumEndpoint]:
        orphans = {endpoint.key: endpoint for endpoint in endpoints if endpoint.key not in pods}
        gone = [endpoint for key, endpoint in orphans.items() if key in self._missing]
        self._missing = set(orphans)
        return gone
