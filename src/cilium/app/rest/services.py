"""GET /v1/service: the addresses that this node translates, as the table has them and with the kernel's ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cilium.app.inspection import Inspection
from cilium.datapath.generated import ServiceFlags
from cilium.features.services.records import SCOPES, flags_of, place_of
from cilium.tables.services import Algorithm, Backend, Frontend, shown_name

Document = dict[str, Any]
Key = tuple[bytes, int, int, int]
"""Address, port, protocol, scope."""


def documents(agent: Inspection) -> list[Document]:
    """Those that the kernel has in the order of their ids, then what waits."""
    table = agent.tables.get("frontends")
    rows: Iterable[Frontend] = table.snapshot() if table is not None else ()
    ids = known_ids(agent)
    found = [document(row, ids.get(_key(row), 0)) for row in rows]
    return sorted(found, key=lambda each: (each["id"] == 0, each["id"], each["frontend"]["ip"]))


def _key(row: Frontend) -> Key:
    return *place_of(row), SCOPES[row.scope]


def known_ids(agent: Inspection) -> dict[Key, int]:
    port = agent.maps.get("cilium_lb_services")
    if port is None:
        return {}
    keys, values = port.dump()
    return {
        (key["address"].tobytes(), int(key["port"]), int(key["protocol"]), int(key["scope"])): int(value["id"])
        for key, value in zip(keys, values, strict=True)
    }


def document(row: Frontend, number: int) -> Document:
    namespace, _, name = shown_name(row.service).partition("/")
    flags = flags_of(row, bool(row.serving))
    return {
        "id": number,
        "frontend": {"ip": str(row.address), "port": row.port, "protocol": row.protocol},
        "scope": row.scope.value,
        "type": row.kind,
        "flags": [str(flag.name).lower() for flag in ServiceFlags if flags & flag],
        "algorithm": (Algorithm.MAGLEV if flags & ServiceFlags.MAGLEV else Algorithm.RANDOM).value,
        "forwarding-mode": row.forwarding.value,
        "affinity-timeout": row.affinity_timeout,
        "source-ranges": [str(network) for network in row.source_ranges],
        "source-ranges-policy": "deny" if row.source_deny else "allow",
        "namespace": namespace,
        "name": name,
        "port-name": row.port_name,
        "backends": [
            {
                "ip": str(backend.address),
                "port": backend.port,
                "node": backend.node,
                "state": _state(backend),
                "weight": backend.weight,
            }
            for backend in row.backends
        ],
        "rivals": [shown_name(rival) for rival in row.rivals],
    }


def _state(backend: Backend) -> str:
    """In upstream's words; `maintenance` gets no new connections, whatever the reason."""
    if backend.terminating:
        return "terminating"
    return "active" if backend.weight else "maintenance"
