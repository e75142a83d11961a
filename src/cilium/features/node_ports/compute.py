"""Which ports of this node lead elsewhere.

In: `frontends`. Out: `node-ports`. A port has a row per family and scope there, and one here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cilium.features.node_ports.rows import NodePort
from cilium.state import RowChanges, View
from cilium.tables.services import FrontendKey

KINDS = ("NodePort", "HostPort")
Key = tuple[int, str]


class NodePorts:
    """The derivation."""

    def __init__(self) -> None:
        self._rows: dict[Key, dict[FrontendKey, NodePort]] = {}

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        touched: set[Key] = set()
        for change in view.changes["frontends"]:
            _, port, protocol, _ = change.key
            key = (port, protocol)
            if change.new is not None and change.new.kind in KINDS:
                row = NodePort(port, protocol, change.new.kind, change.new.service)
                self._rows.setdefault(key, {})[change.key] = row
                touched.add(key)
            elif change.key in self._rows.get(key, ()):
                del self._rows[key][change.key]
                touched.add(key)
        upserts, deletes = [], []
        for key in touched:
            if self._rows[key]:
                upserts.append(next(iter(self._rows[key].values())))
            else:
                del self._rows[key]
                deletes.append(key)
        return {"node-ports": RowChanges(upserts=upserts, deletes=deletes)}
