"""GET /v1/service: the addresses that this node translates, as the table has them and with the kernel's ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cilium.app.inspection import Inspection
from cilium.datapath.addresses import address_bytes
from cilium.datapath.generated import ServiceScope
from cilium.tables.services import Backend, Frontend, Scope

Document = dict[str, Any]
NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}
SCOPES = {scope: ServiceScope[scope.name] for scope in Scope}
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
    return address_bytes(row.address), row.port, NUMBERS[row.protocol], SCOPES[row.scope]


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
    namespace, _, name = row.service.partition("/")
    return {
        "id": number,
        "frontend": {"ip": str(row.address), "port": row.port, "protocol": row.protocol},
        "scope": row.scope.value,
        "type": row.kind,
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
        "rivals": list(row.rivals),
    }


def _state(backend: Backend) -> str:
    """In upstream's words; `maintenance` gets no new connections, whatever the reason."""
    if backend.terminating:
        return "terminating"
    return "active" if backend.weight else "maintenance"
