"""The JSON documents of the agent's API, out of table rows. Field names are upstream's where it has the document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cilium.app.inspection import Inspection
from cilium.tables.endpoints import Endpoint, EndpointIdentity, EndpointPolicy
from cilium.tables.identities import IdentityRow
from cilium.tables.ipcache import IPCacheEntry
from cilium.tables.kubernetes import CiliumNode

Document = dict[str, Any]


def rows(agent: Inspection, table: str) -> Iterable[Any]:
    found = agent.tables.get(table)
    return found.snapshot() if found is not None else ()


def get(agent: Inspection, table: str, key: Any) -> Any:
    found = agent.tables.get(table)
    return found.snapshot().get(key) if found is not None else None


def status(agent: Inspection) -> Document:
    """GET /v1/healthz."""
    errors = agent.errors()
    if not agent.ready:
        state, message = "Failure", agent.stage
    elif errors:
        state, message = "Warning", f"{len(errors)} error(s): {errors[0]}"
    else:
        state, message = "Ok", agent.version
    document: Document = {
        "cilium": {"state": state, "msg": message},
        "node": agent.node,
        "version": agent.version,
        "stage": agent.stage,
        "errors": errors,
        "reconcilers": [reconciler_document(reconciler) for reconciler in agent.reconcilers],
        "controllers": [controller(agent, reconciler) for reconciler in agent.reconcilers],
        "tables": {name: len(table) for name, table in sorted(agent.tables.items())},
    }
    for key, section in agent.sections.items():
        document[key] = section()
    return document


def reconciler_document(reconciler: Any) -> Document:
    kinds: dict[str, int] = {}
    for row in reconciler.status.snapshot():
        kinds[row.kind.value] = kinds.get(row.kind.value, 0) + 1
    return {"name": reconciler.name, "rows": kinds, "pruned": reconciler.pruned, "error": reconciler.prune_error}


def controller(agent: Inspection, reconciler: Any) -> Document:
    """A reconciler in the form in which upstream tells of its controllers."""
    failing = reconciler.errors()
    last = reconciler.prune_error or (failing[0].error if failing else "")
    calls = agent.counts.of(reconciler.name)
    return {
        "name": reconciler.name,
        "status": {
            "success-count": calls.succeeded,
            "failure-count": calls.failed,
            "consecutive-failure-count": max((row.attempts for row in failing), default=int(bool(last))),
            "last-failure-msg": last,
        },
    }


def health(agent: Inspection) -> Document:
    """GET /v1/health: what this node's agent knows of the others."""
    section = agent.sections.get("cluster")
    return dict(section().get("health", {})) if section is not None else {}


def endpoints(agent: Inspection) -> list[Document]:
    return [endpoint(agent, row) for row in sorted(rows(agent, "endpoints"), key=lambda row: row.id)]


def endpoint(agent: Inspection, row: Endpoint) -> Document:
    identity: EndpointIdentity | None = get(agent, "endpoint-identities", row.id)
    policy: EndpointPolicy | None = get(agent, "endpoint-policies", row.id)
    addresses: Mapping[str, str] = {f"ipv{address.version}": str(address) for address in row.addresses}
    return {
        "id": row.id,
        "status": {
            "state": "ready" if policy is not None or row.kind == "host" else "waiting-for-identity",
            "health": {"overallHealth": "OK" if policy is not None or row.kind == "host" else "Pending"},
            "external-identifiers": {
                "container-id": row.container_id,
                "k8s-namespace": row.namespace,
                "k8s-pod-name": row.pod,
                "pod-name": f"{row.namespace}/{row.pod}" if row.pod else "",
                "pod-uid": row.pod_uid,
            },
            "identity": {"id": identity.identity, "labels": list(identity.labels)} if identity else None,
            "labels": {"security-relevant": list(identity.labels) if identity else []},
            "networking": {
                "addressing": [addresses],
                "interface-name": row.ifname,
                "interface-index": row.ifindex,
                "mac": row.mac,
                "host-mac": row.host_mac,
                "container-interface-name": row.container_ifname,
            },
            "policy": {
                "ingress": _direction(policy, policy.ingress if policy else 0),
                "egress": _direction(policy, policy.egress if policy else 0),
                "revision": policy.revision if policy else 0,
            },
            "created": row.created,
            "kind": row.kind,
        },
    }


def _direction(policy: EndpointPolicy | None, number: int) -> Document:
    if policy is None:
        return {"state": "Pending", "enforcing": True}
    return {"state": "Enabled" if number else "Disabled", "enforcing": bool(number), "policy-id": number}


def identity(row: IdentityRow) -> Document:
    return {"id": row.id, "labels": list(row.labels), "source": row.source}


def ip(row: IPCacheEntry) -> Document:
    return {
        "cidr": str(row.prefix),
        "identity": row.identity,
        "hostIP": str(row.tunnel_endpoint) if row.tunnel_endpoint else "",
        "encryptKey": row.encrypt_key,
        "metadata": {"source": row.source, "name": row.owner},
    }


def node(row: CiliumNode, *, local: str) -> Document:
    return {
        "name": row.name,
        "local": row.name == local,
        "internal-ips": [str(address) for address in row.internal_ips],
        "router-ips": [str(address) for address in row.router_ips],
        "health-ips": [str(address) for address in row.health_ips],
        "pod-cidrs": [str(cidr) for cidr in row.pod_cidrs],
    }
