"""Which identity every endpoint of this node has, and every identity this node has to know.

In: endpoints, pods, namespaces, CiliumIdentities, CIDR identities of the policy engine, identities of nodes. Out:
`endpoint-identities`, `identity-requests` (identities somebody has to create first), `identities`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cilium.features.identity.labels import LabelFilter, security_labels
from cilium.features.identity.numbers import candidate, well_known
from cilium.features.identity.rows import IdentityRequest
from cilium.state import RowChanges, Snapshot, View
from cilium.tables.endpoints import Endpoint, EndpointIdentity
from cilium.tables.identities import IdentityRow, Reserved
from cilium.tables.kubernetes import CiliumIdentity, Namespace, Pod
from cilium.tables.types import Identity, Labels


def known_identities(view: View) -> Mapping[str, RowChanges[Any, Any]]:
    """Mirrors identities of the cluster, of CIDRs and of nodes into `identities`; the reserved ones are there from the
    start, of which `host` may get more labels."""
    upserts: list[IdentityRow] = []
    deletes: list[Identity] = []
    for change in view.changes["cilium-identities"]:
        if change.new is None:
            deletes.append(change.key)
        else:
            upserts.append(IdentityRow(id=change.new.id, labels=change.new.labels, source="cluster"))
    for change in view.changes.get("cidr-identities", ()):
        if change.old is not None and (change.new is None or change.new.identity != change.old.identity):
            deletes.append(change.old.identity)
        if change.new is not None:
            upserts.append(IdentityRow(id=change.new.identity, labels=change.new.labels, source="cidr"))
    for change in view.changes.get("node-identities", ()):
        if change.new is None:
            deletes.append(change.key)
        else:
            source = "reserved" if change.key == Reserved.HOST else "remote-node"
            upserts.append(IdentityRow(id=change.key, labels=change.new.labels, source=source))
    return {"identities": RowChanges(upserts=upserts, deletes=deletes)}


class EndpointIdentities:
    """Resolves the endpoints of one node; a pod whose labels nobody gave an identity yet becomes a request."""

    def __init__(self, *, cluster: str, labels: LabelFilter, use_well_known: bool = False) -> None:
        self._cluster, self._filter = cluster, labels
        self._well_known = well_known(cluster) if use_well_known else {}
        self._requested: set[Labels] = set()

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        endpoints: Snapshot[int, Endpoint] = view.snapshots["endpoints"]
        wanted: dict[Labels, IdentityRequest] = {}
        resolved = [self._resolve(endpoint, view, wanted) for endpoint in endpoints]
        stale = self._requested - wanted.keys()
        self._requested = set(wanted)
        gone = [change.key for change in view.changes["endpoints"] if change.new is None]
        return {
            "endpoint-identities": RowChanges(upserts=[row for row in resolved if row is not None], deletes=gone),
            "identity-requests": RowChanges(upserts=list(wanted.values()), deletes=list(stale)),
        }

    def _resolve(
        self, endpoint: Endpoint, view: View, wanted: dict[Labels, IdentityRequest]
    ) -> EndpointIdentity | None:
        if endpoint.kind != "pod":
            reserved = Reserved.HOST if endpoint.kind == "host" else Reserved.HEALTH
            return EndpointIdentity(endpoint=endpoint.id, identity=Identity(reserved), labels=(reserved.label,))
        pod: Pod | None = view.snapshots["pods"].get(f"{endpoint.namespace}/{endpoint.pod}")
        namespace: Namespace | None = view.snapshots["namespaces"].get(endpoint.namespace)
        if pod is None or namespace is None:
            return None  # keeps what it has: losing sight of the API changes nobody's identity
        labels = security_labels(pod, namespace, cluster=self._cluster, labels=self._filter)
        identity = self._identity(labels, view.snapshots["cilium-identities"])
        if identity is None:
            taken: Callable[[Identity], bool] = view.snapshots["cilium-identities"].__contains__
            wanted[labels] = IdentityRequest(labels=labels, candidate=candidate(labels, taken))
            return None
        return EndpointIdentity(
            endpoint=endpoint.id, identity=identity, labels=labels, named_ports=tuple(pod.named_ports)
        )

    def _identity(self, labels: Labels, identities: Snapshot[int, CiliumIdentity]) -> Identity | None:
        if labels in self._well_known:
            return self._well_known[labels]
        return min((row.id for row in identities.by("labels", labels)), default=None)
