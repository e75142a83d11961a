"""Who is behind the numbers of a record: pods, labels, workloads, interfaces, rules.

Owns: `Names`, an index over snapshots of the agent's tables, kept current from their change streams.
Comes in: table changes. Goes out: `Party` for (address, endpoint, identity), the owner of a socket, services, and for
filters the addresses of pods and the identities that bear labels. Pods and identities that are gone keep their names
for a while: flows outlive them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from cilium.datapath.generated import FlowDirection as Direction
from cilium.hubble.addresses import is_ipv4, packed, unpacked
from cilium.hubble.remembering import REMEMBERED, Remembering
from cilium.hubble.services import ServiceNames
from cilium.hubble.sockets import NOWHERE, Owner
from cilium.state.table import Table
from cilium.tables.devices import Device
from cilium.tables.endpoints import Endpoint, EndpointIdentity
from cilium.tables.identities import IdentityRow, Reserved
from cilium.tables.ipcache import IPCacheEntry
from cilium.tables.kubernetes import CiliumEndpoint, Pod
from cilium.tables.labels import CLUSTER
from cilium.tables.rules import RuleReference
from cilium.tables.services import Frontend
from cilium.tables.types import IPAddress, Labels

SETTLE = 0.1
"""Seconds between two updates of the index."""
CLUSTER_LABEL = f"k8s:{CLUSTER}="


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a flow."""

    endpoint: int = 0
    identity: int = 0
    namespace: str = ""
    pod: str = ""
    labels: Labels = ()
    workload_kind: str = ""
    workload_name: str = ""
    cluster: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameTables:
    """What names are taken from."""

    pods: Table[Any, Pod]
    cilium_endpoints: Table[Any, CiliumEndpoint]
    endpoints: Table[Any, Endpoint]
    endpoint_identities: Table[Any, EndpointIdentity]
    identities: Table[Any, IdentityRow]
    ipcache: Table[Any, IPCacheEntry]
    devices: Table[Any, Device]
    frontends: Table[Any, Frontend]
    rule_references: Table[Any, RuleReference]


class Names:
    """`generation` grows with every change: what was derived from an older one may be stale.

    `default_deny` names the policies whose default deny closes a direction of an endpoint, or would if those in audit
    mode were enforced; without it such drops name no policy. `dual_stack`: there is a world per family.
    """

    def __init__(
        self,
        tables: NameTables,
        *,
        default_deny: Callable[[int, Direction, bool], Sequence[RuleReference]] | None = None,
        dual_stack: bool = True,
    ) -> None:
        self.generation = 0
        self._tables = tables
        self._default_deny = default_deny
        self._dual_stack = dual_stack
        self._wake = asyncio.Event()
        self._pods = tables.pods.changes(wake=self._wake)
        self._ciliums = tables.cilium_endpoints.changes(wake=self._wake)
        self._endpoints = tables.endpoints.changes(wake=self._wake)
        self._identities = tables.identities.changes(wake=self._wake)
        self._own = tables.endpoint_identities.changes(wake=self._wake)
        self.services = ServiceNames(tables.frontends, identity_at=self.identity_at, wake=self._wake)
        self._workloads: Remembering[str, tuple[str, str]] = Remembering()
        self._of_address: Remembering[bytes, str] = Remembering()
        self._of_endpoint: Remembering[int, tuple[str, str]] = Remembering()
        self._of_netns: Remembering[int, Endpoint] = Remembering()
        """By cookie: no other namespace ever gets it, whereas numbers of endpoints come again."""
        self._identities_of: Remembering[int, int] = Remembering()
        """By endpoint."""
        self._labels: Remembering[int, Labels] = Remembering()
        self._parties: dict[tuple[bytes, int, int], Party] = {}
        self.refresh()

    async def run(self) -> None:
        """Keep the index current, so that what comes and goes between two questions is known too."""
        while True:
            await self._wake.wait()
            self.refresh()
            await asyncio.sleep(SETTLE)

    def refresh(self) -> None:
        """Take in what changed in the tables."""
        changed = False
        for pod in self._pods.pop():
            changed = True
            self._index(pod.key, _pod_addresses(pod.old), _pod_addresses(pod.new))
            if pod.new is None:
                self._workloads.forget(pod.key)
            else:
                self._workloads.learn(pod.key, (pod.new.workload_kind, pod.new.workload_name))
        for other in self._ciliums.pop():
            changed = True
            self._index(other.key, other.old.ips if other.old else (), other.new.ips if other.new else ())
        for endpoint in self._endpoints.pop():
            changed = True
            if endpoint.new is None:
                self._of_endpoint.forget(endpoint.key)
            else:
                self._of_endpoint.learn(endpoint.key, (endpoint.new.namespace, endpoint.new.pod))
            self._settle(endpoint.old, endpoint.new)
        for identity in self._identities.pop():
            changed = True
            self._learn_labels(identity.key, identity.new.labels if identity.new else None)
        for own in self._own.pop():
            if own.new is None:
                self._identities_of.forget(own.key)
            else:
                changed = True
                self._identities_of.learn(own.key, own.new.identity)
                self._learn_labels(own.new.identity, own.new.labels)
        self.services.refresh()
        if changed:
            self.generation += 1
            self._parties.clear()

    def party(self, address: bytes, endpoint: int, identity: int) -> Party:
        """Who that is; `endpoint` is 0 for those of other nodes. Fields that nobody knows are empty."""
        key = (address, endpoint, identity)
        party = self._parties.get(key)
        if party is None:
            if len(self._parties) >= 16 * REMEMBERED:
                self._parties.clear()
            party = self._parties[key] = self._find(*key)
        return party

    def addresses(self, accept: Callable[[str, str], bool]) -> list[bytes]:
        """Addresses of the pods whose namespace and name are accepted, gone ones included."""
        return [address for address, pod in self._of_address.with_gone() if accept(*pod.split("/", 1))]

    def endpoints(self, accept: Callable[[str, str], bool]) -> list[int]:
        """Endpoint ids on this node of such pods."""
        return [number for number, pod in self._of_endpoint.with_gone() if accept(*pod)]

    def identities(self, accept: Callable[[Labels], bool]) -> list[int]:
        """Identities whose labels are accepted."""
        known = {**{int(r): (r.label,) for r in Reserved}, **dict(self._labels.with_gone())}
        return [number for number, labels in known.items() if accept(labels)]

    def interface(self, ifindex: int) -> str:
        device = self._tables.devices.snapshot().get(ifindex)
        return device.name if device else ""

    def rule(self, cookie: int) -> RuleReference | None:
        return self._tables.rule_references.snapshot().get(cookie) if cookie else None

    def default_deny(self, endpoint: int, direction: Direction, audited: bool) -> Sequence[RuleReference]:
        return self._default_deny(endpoint, direction, audited) if self._default_deny and endpoint else ()

    def owner(self, netns_cookie: int) -> Owner:
        """Whose sockets are in the network namespace: a pod's, or those of the node's processes, which have no address
        until they are bound."""
        endpoint = self._of_netns.recall(netns_cookie)
        if endpoint is None:
            return Owner()
        if endpoint.kind == "host":
            return Owner(endpoint.id, Reserved.HOST)
        identity = self._identities_of.recall(endpoint.id) or 0
        ipv4, ipv6 = (
            next((packed(one) for one in endpoint.addresses if one.version == version), NOWHERE) for version in (4, 6)
        )
        return Owner(endpoint.id, identity, ipv4, ipv6)

    def identity_at(self, address: bytes) -> int:
        """0: unknown."""
        entry = self._tables.ipcache.snapshot().get(ip_network(unpacked(address)))
        return entry.identity if entry else 0

    def peer_identity(self, address: bytes) -> int:
        """Whom a socket talks to; where nobody is known there is the world, as the datapath sees it."""
        world = Reserved.WORLD_IPV4 if is_ipv4(address) else Reserved.WORLD_IPV6
        return self.identity_at(address) or (world if self._dual_stack else Reserved.WORLD)

    def _find(self, address: bytes, endpoint: int, identity: int) -> Party:
        namespace, pod = self._of_endpoint.recall(endpoint) or ("", "")
        if not pod and (key := self._of_address.recall(address)):
            namespace, pod = key.split("/", 1)
        identity = identity or self.identity_at(address)
        labels = self._labels.recall(identity)
        if labels is None:
            labels = (Reserved(identity).label,) if identity in Reserved._value2member_map_ else ()
        kind, name = self._workloads.recall(f"{namespace}/{pod}") or ("", "")
        cluster = next((one.removeprefix(CLUSTER_LABEL) for one in labels if one.startswith(CLUSTER_LABEL)), "")
        return Party(endpoint, identity, namespace, pod, labels, kind, name, cluster)

    def _settle(self, before: Endpoint | None, after: Endpoint | None) -> None:
        """An endpoint's network namespace."""
        if before is not None and (after is None or after.netns_cookie != before.netns_cookie):
            self._of_netns.forget(before.netns_cookie)
        if after is not None and after.netns_cookie:
            self._of_netns.learn(after.netns_cookie, after)

    def _index(self, pod: str, before: Sequence[IPAddress], after: Sequence[IPAddress]) -> None:
        for address in before:
            if address not in after and self._of_address.get(packed(address)) == pod:
                self._of_address.forget(packed(address))
        for address in after:
            self._of_address.learn(packed(address), pod)

    def _learn_labels(self, identity: int, labels: Labels | None) -> None:
        if labels is None:
            self._labels.forget(identity)
        else:
            self._labels.learn(identity, labels)


def _pod_addresses(pod: Pod | None) -> tuple[IPAddress, ...]:
    """Addresses that are the pod's own: with hostNetwork they are the node's, after its end they may be another's."""
    return () if pod is None or pod.host_network or pod.phase in ("Succeeded", "Failed") else pod.ips
