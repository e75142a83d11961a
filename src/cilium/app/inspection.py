"""What an agent can be asked about itself: read-only, the same for the REST API, probes and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cilium.app.counts import Counts
from cilium.datapath.maps import BpfMap
from cilium.settings import Settings
from cilium.sources.kubernetes.reflector import Health
from cilium.state import Reconciler, Table
from cilium.tables.rules import SelectorUse


@dataclass(kw_only=True)
class Inspection:
    """Filled by the composition root while it builds; readers cope with what is not there yet."""

    settings: Settings
    node: str
    version: str
    tables: dict[str, Table[Any, Any]] = field(default_factory=dict)
    reconcilers: list[Reconciler[Any, Any]] = field(default_factory=list)
    maps: dict[str, BpfMap] = field(default_factory=dict)
    """Pinned maps by name, once the datapath is loaded."""
    sections: dict[str, Callable[[], Mapping[str, Any]]] = field(default_factory=dict)
    """Parts of the status that features contribute, by key of the JSON document."""
    counts: Counts = field(default_factory=Counts)
    """What happened so far, for metrics."""
    reflectors: Callable[[], Sequence[Health]] = list
    """How the connections to the API server are."""
    selectors: Callable[[], Sequence[SelectorUse]] = list
    """Everybody whom policies name, once there is a policy engine."""
    refused: list[str] = field(default_factory=list)
    """What CiliumNodeConfigs ask of this node and cannot have."""
    stage: str = "starting"
    """What start-up is doing or waiting for; `ready` when it is done."""
    started: float = field(default_factory=time.time)

    def add_tables(self, tables: Sequence[Table[Any, Any]]) -> None:
        self.tables.update((table.name, table) for table in tables)

    def add_reconcilers(self, *reconcilers: Reconciler[Any, Any]) -> None:
        self.reconcilers.extend(reconcilers)
        for reconciler in reconcilers:
            reconciler.observe(self.counts)
        self.add_tables([reconciler.status for reconciler in reconcilers])

    @property
    def ready(self) -> bool:
        return self.stage == "ready"

    def errors(self) -> list[str]:
        """What the world does not follow at the moment, in words."""
        found = list(self.refused)
        for reconciler in self.reconcilers:
            found += [f"{reconciler.name}: {row_name(row.key)}: {row.error}" for row in reconciler.errors()]
            if reconciler.prune_error:
                found.append(f"{reconciler.name}: prune: {reconciler.prune_error}")
        return found


def row_name(key: object) -> str:
    """A table's key as people read it: `eth0 xdp`."""
    return " ".join(map(row_name, key)) if type(key) is tuple else str(key)
