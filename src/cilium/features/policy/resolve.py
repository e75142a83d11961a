"""References of policies to other objects, resolved: `policies` become `resolved-policies`.

In: `policies`, `namespaces`, and what rules refer to: `services`, `endpoint-slices`, `cidr-groups`. Out:
`resolved-policies`, in which peers are selectors and CIDRs only. Everything behind it (the compiler, the CIDR
identities, Hubble's names) reads that table.

A Service with a selector stands for the pods that it selects; one without stands for the addresses in its
EndpointSlices. What is not there selects nobody, and the policy says so in its warnings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any

import msgspec

from cilium.features.policy.references import References
from cilium.features.policy.surroundings import Surroundings
from cilium.state import RowChanges, Snapshot, View
from cilium.tables.labels import CLUSTER, NAMESPACE
from cilium.tables.matching import selects
from cilium.tables.names import object_name
from cilium.tables.rules import (
    CIDRGroup,
    CIDRGroupPeer,
    CIDRPeer,
    DirectionRule,
    Peers,
    PolicyObject,
    Requirement,
    Rule,
    Selector,
    ServicePeer,
)
from cilium.tables.services import EndpointSlice, Service


class Resolver:
    """`compute` is the compute function of one derivation. `cluster`: where the pods of services are."""

    def __init__(self, *, cluster: str = "default") -> None:
        self._cluster = cluster
        self._services: References[ServicePeer, Service] = References(means_service)
        self._groups: References[CIDRGroupPeer, CIDRGroup] = References(means_group)
        self._surroundings = Surroundings()

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        self._take_policies(view)
        stale = self._surroundings.take(view) | self._take_services(view) | self._take_groups(view)
        policies: Snapshot[str, PolicyObject] = view.snapshots["policies"]
        concerned = {key: policies.get(key) for key in sorted(stale)}
        return {
            "resolved-policies": RowChanges(
                upserts=[
                    self._surroundings.complete(self._resolve(row, view))
                    for row in concerned.values()
                    if row is not None
                ],
                deletes=[key for key, row in concerned.items() if row is None],
            )
        }

    # ------------------------------------------------------------------------------------------------------ intake

    def _take_policies(self, view: View) -> None:
        for change in view.changes["policies"]:
            peers = [] if change.new is None else list(_peers(change.new))
            services = [reference for one in peers for reference in one.services]
            groups = [reference for one in peers for reference in one.cidr_groups]
            self._services.refer(change.key, services, ((row.key, row) for row in view.snapshots.get("services", ())))
            self._groups.refer(change.key, groups, ((row.name, row) for row in view.snapshots.get("cidr-groups", ())))

    def _take_services(self, view: View) -> set[str]:
        stale: set[str] = set()
        for change in view.changes.get("services", ()):
            stale |= self._services.change(change.key, change.new)
        touched = {
            row.service_key
            for change in view.changes.get("endpoint-slices", ())
            for row in (change.old, change.new)
            if row is not None and row.service
        }
        for key in touched:
            service: Service | None = view.snapshots["services"].get(key)
            if service is not None and not service.selector:
                stale |= self._services.change(key, service)
        return stale

    def _take_groups(self, view: View) -> set[str]:
        stale: set[str] = set()
        for change in view.changes.get("cidr-groups", ()):
            stale |= self._groups.change(change.key, change.new)
        return stale

    # -------------------------------------------------------------------------------------------------- resolution

    def _resolve(self, policy: PolicyObject, view: View) -> PolicyObject:
        """The object itself if it refers to nothing."""
        if not any(peers.services or peers.cidr_groups for peers in _peers(policy)):
            return policy
        warnings = list(policy.warnings)
        rules = tuple(
            msgspec.structs.replace(
                rule,
                ingress=tuple(self._element(element, view, warnings) for element in rule.ingress),
                egress=tuple(self._element(element, view, warnings) for element in rule.egress),
            )
            for rule in policy.rules
        )
        return msgspec.structs.replace(policy, rules=rules, warnings=tuple(warnings))

    def _element(self, element: DirectionRule, view: View, warnings: list[str]) -> DirectionRule:
        peers = element.peers
        selectors, cidrs = list(peers.selectors), list(peers.cidrs)
        for service in peers.services:
            self._backends(service, view, selectors, cidrs, warnings)
        for group in peers.cidr_groups:
            cidrs += self._members(group, view, warnings)
        if not (peers.services or peers.cidr_groups):
            return element
        found = Peers(peers.wildcard, tuple(dict.fromkeys(selectors)), tuple(dict.fromkeys(cidrs)))
        return msgspec.structs.replace(element, peers=found)

    def _backends(
        self, reference: ServicePeer, view: View, selectors: list[Selector], cidrs: list[CIDRPeer], warnings: list[str]
    ) -> None:
        """Adds the backends of the services that `reference` means."""
        services = [view.snapshots["services"][key] for key in self._services.meant(reference)]
        if not services:
            name = object_name("Service", reference.namespace, reference.name)
            named = name if reference.name else "a Service it selects"
            warnings.append(f"{reference.path}: there is no such object as {named}: selects nobody")
        for service in services:
            if service.selector:
                selectors.append(self._pods(service))
                continue
            found = endpoints(view.snapshots["endpoint-slices"].by("service", service.key))
            cidrs += found
            if service.kind == "ExternalName":
                warnings.append(f"{reference.path}: Service {service.key} is a name (ExternalName): selects nobody")
            elif not found:
                warnings.append(f"{reference.path}: Service {service.key} has no endpoints: selects nobody")

    def _pods(self, service: Service) -> Selector:
        labels = (label.partition("=") for label in service.selector)
        return Selector(
            (
                *(Requirement(key, "In", (value,)) for key, _, value in labels),
                Requirement(f"k8s:{NAMESPACE}", "In", (service.namespace,)),
                Requirement(f"k8s:{CLUSTER}", "In", (self._cluster,)),
            )
        )

    def _members(self, reference: CIDRGroupPeer, view: View, warnings: list[str]) -> Iterator[CIDRPeer]:
        groups: list[CIDRGroup] = [view.snapshots["cidr-groups"][key] for key in self._groups.meant(reference)]
        if not groups:
            named = f"CiliumCIDRGroup {reference.name}" if reference.name else "a CiliumCIDRGroup it selects"
            warnings.append(f"{reference.path}: there is no such object as {named}: selects nobody")
        for group in groups:
            if group.error:
                rest = "its last valid CIDRs hold" if group.cidrs else "selects nobody"
                warnings.append(f"{reference.path}: CiliumCIDRGroup {group.name}: {group.error}; {rest}")
            for cidr in group.cidrs:
                # Holes elsewhere take nothing out of this one.
                holes = (hole for hole in reference.excepts if hole.version == cidr.version and hole.overlaps(cidr))
                yield CIDRPeer(cidr, tuple(holes))


def means_service(reference: ServicePeer, service: Service) -> bool:
    if reference.namespace not in ("", service.namespace):
        return False
    if reference.selector is None:
        return reference.name == service.name
    return selects(reference.selector, service.labels)


def means_group(reference: CIDRGroupPeer, group: CIDRGroup) -> bool:
    return reference.name == group.name if reference.selector is None else selects(reference.selector, group.labels)


def endpoints(slices: Iterable[EndpointSlice]) -> list[CIDRPeer]:
    """Ready or not: what may be reached does not depend on a probe."""
    addresses = {endpoint.address for row in slices for endpoint in row.endpoints}
    return [CIDRPeer(ip_network(address)) for address in sorted(addresses, key=lambda a: (a.version, int(a)))]


def _peers(policy: PolicyObject) -> Iterator[Peers]:
    rules: tuple[Rule, ...] = policy.rules
    return (element.peers for rule in rules for element in (*rule.ingress, *rule.egress))
