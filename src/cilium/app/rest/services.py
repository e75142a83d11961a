"""GET /v1/service: the addresses that this node translates, as the table has them and with the kernel's ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cilium.app.inspection import Inspection
from cilium.datapath.addresses import address_bytes
from cilium.tables.services import Frontend

Document = dict[str, Any]
NUMBERS = {"TCP": 6, "UDP": 17}


def documents(agent: Inspection) -> list[Document]:
    """Those that the kernel has in the order of their ids, then what waits."""
    table = agent.tables.get("frontends")
    rows: Iterable[Frontend] = table.snapshot() if table is not None else ()
    ids = known_ids(agent)
    found = [document(row, ids.get((address_bytes(row.address), row.port, NUMBERS[row.protocol]), 0)) for row in rows]
    return sorted(found, key=lambda each: (each["id"] == 0, each["id"], each["frontend"]["ip"]))


def known_ids(agent: Inspection) -> dict[tuple[bytes, int, int], int]:
    port = agent.maps.get("cilium_lb_services")
    if port is None:
        return {}
    keys, values = port.dump()
    return {
        (key["address"].tobytes(), int(key["port"]), int(key["protocol"])): int(value["id"])
        for key, value in zip(keys, values, strict=True)
    }


def document(row: Frontend, number: int) -> Document:
    namespace, _, name = row.service.partition("/")
    return {
        "id": number,
        "frontend": {"ip": str(row.address), "port": row.port, "protocol": row.protocol},
        "type": row.kind,
        "namespace": namespace,
        "name": name,
        "port-name": row.port_name,
        "backends": [
            {
                "ip": str(backend.address),
                "port": backend.port,
                "node": backend.node,
                "state": "terminating" if backend.terminating else "active",
            }
            for backend in row.backends
        ],
        "rivals": list(row.rivals),
    }
