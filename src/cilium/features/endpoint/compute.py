"""Endpoints, their identities and their policies joined into what the datapath and the API have to show.

In: `endpoints`, `endpoint-identities`, `endpoint-policies`; for objects that somebody deletes, `cilium-endpoints` and
`pods`. Out: `endpoint-map`, `endpoint-objects`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cilium.features.endpoint.rows import EndpointMapEntry, EndpointObject
from cilium.state import RowChanges, View
from cilium.tables.endpoints import Endpoint, EndpointIdentity, EndpointPolicy
from cilium.tables.identities import Reserved
from cilium.tables.kubernetes import Pod
from cilium.tables.types import EndpointId, Identity, IPAddress, PolicyId

ENDPOINT_INPUTS = ("endpoints", "endpoint-identities", "endpoint-policies")


def touched(view: View) -> set[EndpointId]:
    """Endpoints that a change concerns."""
    return {change.key for name in ENDPOINT_INPUTS for change in view.changes[name]}


def map_entries(
    endpoint: Endpoint, identity: EndpointIdentity | None, policy: EndpointPolicy | None
) -> Iterable[EndpointMapEntry]:
    """One row per address.

    Identity and policy change together: while the policy of a new identity is being computed, the old pair stays.
    Host addresses are never closed for want of a policy: the node must stay reachable.
    """
    host = endpoint.kind == "host"
    if policy is not None:
        number = policy.identity
    elif identity is not None:
        number = identity.identity
    else:
        number = Identity(Reserved.HOST if host else Reserved.INIT)
    for address in endpoint.addresses:
        yield EndpointMapEntry(
            address=address,
            endpoint=endpoint.id,
            identity=number,
            ifindex=endpoint.ifindex,
            mac=endpoint.mac,
            host_mac=endpoint.host_mac,
            ingress_policy=policy.ingress if policy else PolicyId(0),
            egress_policy=policy.egress if policy else PolicyId(0),
            host=host,
            health=endpoint.kind == "health",
            not_ready=not host and policy is None,
            audit=policy is not None and policy.audit,
        )


class EndpointMap:
    """Keeps `endpoint-map`: touches only the endpoints that a change concerns."""

    def __init__(self) -> None:
        self._addresses: dict[EndpointId, tuple[IPAddress, ...]] = {}

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        upserts: list[EndpointMapEntry] = []
        gone: set[IPAddress] = set()
        for number in touched(view):
            rows = self._rows(view, number)
            upserts += rows
            now = tuple(row.address for row in rows)
            gone |= set(self._addresses.pop(number, ())) - set(now)
            if now:
                self._addresses[number] = now
        gone -= {row.address for row in upserts}
        if gone:  # an address that two endpoints claimed stays with the other
            heirs = [number for number, addresses in self._addresses.items() if not gone.isdisjoint(addresses)]
            upserts += (row for number in heirs for row in self._rows(view, number) if row.address in gone)
            gone -= {row.address for row in upserts}
        return {"endpoint-map": RowChanges(upserts=upserts, deletes=list(gone))}

    @staticmethod
    def _rows(view: View, number: EndpointId) -> list[EndpointMapEntry]:
        endpoint: Endpoint | None = view.snapshots["endpoints"].get(number)
        identity: EndpointIdentity | None = view.snapshots["endpoint-identities"].get(number)
        policy: EndpointPolicy | None = view.snapshots["endpoint-policies"].get(number)
        return [] if endpoint is None else list(map_entries(endpoint, identity, policy))


class EndpointObjects:
    """Keeps `endpoint-objects`: a pod is published once its identity is known. An object that somebody else deleted
    makes the row another one, so that it is written again.
    """

    def __init__(self, *, node_ip: IPAddress) -> None:
        self._node_ip = node_ip
        self._keys: dict[EndpointId, str] = {}
        self._deletions: dict[EndpointId, int] = {}

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        upserts, deletes = [], []
        deleted = self._deleted(view)
        for number in deleted:
            self._deletions[number] = self._deletions.get(number, 0) + 1
        for number in touched(view) | deleted:
            endpoint: Endpoint | None = view.snapshots["endpoints"].get(number)
            identity: EndpointIdentity | None = view.snapshots["endpoint-identities"].get(number)
            if endpoint is None:
                self._deletions.pop(number, None)
                if (key := self._keys.pop(number, None)) is not None:
                    deletes.append(key)
            elif endpoint.kind == "pod" and identity is not None:
                row = self._object(endpoint, identity, view.snapshots["endpoint-policies"].get(number))
                self._keys[number] = row.key
                upserts.append(row)
        kept = {row.key for row in upserts} | set(self._keys.values())
        return {"endpoint-objects": RowChanges(upserts=upserts, deletes=[key for key in deletes if key not in kept])}

    def _deleted(self, view: View) -> set[EndpointId]:
        """Endpoints whose object went, though their pod is there: without it, the API would collect it again."""
        gone = {change.key for change in view.changes["cilium-endpoints"] if change.new is None}
        if not gone:
            return set()
        found = set()
        for number, key in self._keys.items():
            endpoint: Endpoint | None = view.snapshots["endpoints"].get(number)
            pod: Pod | None = view.snapshots["pods"].get(key)
            if key in gone and endpoint and pod and pod.uid == endpoint.pod_uid:
                found.add(number)
        return found

    def _object(self, endpoint: Endpoint, identity: EndpointIdentity, policy: EndpointPolicy | None) -> EndpointObject:
        return EndpointObject(
            namespace=endpoint.namespace,
            name=endpoint.pod,
            endpoint=endpoint.id,
            pod_uid=endpoint.pod_uid,
            identity=identity.identity,
            labels=identity.labels,
            addresses=endpoint.addresses,
            node_ip=self._node_ip,
            named_ports=identity.named_ports,
            ingress_enforced=bool(policy and policy.ingress),
            egress_enforced=bool(policy and policy.egress),
            deletions=self._deletions.get(endpoint.id, 0),
        )
