"""GET /v1/lrp: local redirect policies, and what they mean on this node. Field names are upstream's."""

from __future__ import annotations

from typing import Any

from cilium.app.inspection import Inspection
from cilium.app.rest.documents import rows
from cilium.tables.redirects import LocalRedirect, RedirectMapping

Document = dict[str, Any]


def documents(agent: Inspection) -> list[Document]:
    return [document(row) for row in sorted(rows(agent, "local-redirects"), key=lambda row: row.key)]


def document(row: LocalRedirect) -> Document:
    policy = row.policy
    return {
        "uid": policy.uid,
        "namespace": policy.namespace,
        "name": policy.name,
        "lrp-type": "svc" if policy.service else "addr" if policy.address is not None else "none",
        "frontend-type": policy.frontend_type.value,
        "service-id": policy.service,
        "skip-redirect-from-backend": policy.skip_backends,
        "frontend-mappings": [_mapping(mapping) for mapping in row.mappings],
        "error": policy.error,
    }


def _mapping(row: RedirectMapping) -> Document:
    return {
        "frontend-address": {"ip": str(row.address), "port": row.port, "protocol": row.protocol},
        "backends": [
            {
                "pod-id": end.pod,
                "backend-address": {"ip": str(end.address), "port": end.port, "protocol": row.protocol},
            }
            for end in row.backends
        ],
    }
