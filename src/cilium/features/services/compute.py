"""Which addresses stand for services, and for which backends.

In: `services`, `endpoint-slices`. Out: `frontends`. A change touches the services it names and no others. Two services
may claim one address and port (external IPs are anybody's to write): the older one gets it, the younger is named in
the row, and takes over when the older goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import msgspec

from cilium.state import RowChanges, View
from cilium.tables.services import (
    Backend,
    EndpointSlice,
    Frontend,
    FrontendKey,
    Service,
    ServicePort,
    SliceEndpoint,
)
from cilium.tables.types import IPAddress

PROTOCOLS = ("TCP", "UDP")
UNSPECIFIED: Mapping[int, IPAddress] = {4: IPv4Address(0), 6: IPv6Address(0)}
Age = tuple[str, str]


class Frontends:
    """The derivation. `node`: whose pods are local; `versions`: the IP versions that this node speaks."""

    def __init__(self, *, node: str, versions: frozenset[int]) -> None:
        self._node, self._versions = node, versions
        self._slices: dict[str, dict[str, EndpointSlice]] = {}
        """By service, then by slice."""
        self._claims: dict[str, tuple[FrontendKey, ...]] = {}
        self._by_key: dict[FrontendKey, dict[str, tuple[Age, Frontend]]] = {}

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        touched = {change.key for change in view.changes["services"]}
        for change in view.changes["endpoint-slices"]:
            touched |= self._file(change.key, change.old, change.new)
        keys: set[FrontendKey] = set()
        services = view.snapshots["services"]
        for name in touched:
            keys |= self._claim(name, services.get(name))
        upserts = [self._winner(key) for key in keys if key in self._by_key]
        return {"frontends": RowChanges(upserts=upserts, deletes=[key for key in keys if key not in self._by_key])}

    def _file(self, key: str, old: EndpointSlice | None, new: EndpointSlice | None) -> set[str]:
        """Notes a slice under its service; returns the services that it concerns."""
        concerned = set()
        if old is not None and old.service:
            members = self._slices.get(old.service_key, {})
            members.pop(key, None)
            if not members:
                self._slices.pop(old.service_key, None)
            concerned.add(old.service_key)
        if new is not None and new.service:
            self._slices.setdefault(new.service_key, {})[key] = new
            concerned.add(new.service_key)
        return concerned

    def _claim(self, name: str, service: Service | None) -> set[FrontendKey]:
        """Replaces what a service claims; returns the keys that may have changed."""
        rows = list(self._of_service(service)) if service is not None else []
        age = (service.created, name) if service is not None else ("", "")
        old = self._claims.pop(name, ())
        for key in old:
            holders = self._by_key[key]
            holders.pop(name, None)
            if not holders:
                del self._by_key[key]
        for row in rows:
            self._by_key.setdefault(row.key, {})[name] = (age, row)
        if rows:
            self._claims[name] = tuple({row.key for row in rows})
        return set(old) | {row.key for row in rows}

    def _winner(self, key: FrontendKey) -> Frontend:
        holders = self._by_key[key]
        if len(holders) == 1:
            return next(iter(holders.values()))[1]
        (_, row), *others = sorted(holders.values(), key=lambda holder: holder[0])
        return msgspec.structs.replace(row, rivals=tuple(other.service for _, other in others))

    def _of_service(self, service: Service) -> Iterator[Frontend]:
        if service.proxy_name or not service.cluster_ips:
            return
        slices = list(self._slices.get(service.key, {}).values())
        for port in service.ports:
            if port.protocol not in PROTOCOLS:
                continue
            for version in {address.version for address in service.cluster_ips} & self._versions:
                yield from self._of_port(service, port, version, slices)

    def _of_port(
        self, service: Service, port: ServicePort, version: int, slices: Iterable[EndpointSlice]
    ) -> Iterator[Frontend]:
        candidates = dict(_candidates(slices, port, version))
        everywhere = backends(candidates)
        inside = everywhere
        if service.internal_local:
            inside = backends({place: end for place, end in candidates.items() if end.node == self._node})

        def row(address: IPAddress, number: int, kind: str, targets: tuple[Backend, ...]) -> Frontend:
            return Frontend(address, number, port.protocol, service.key, port.name, kind, targets)

        for kind, given, targets in (
            ("ClusterIP", service.cluster_ips, inside),
            ("ExternalIP", service.external_ips, everywhere),
            ("LoadBalancer", service.load_balancer_ips, everywhere),
        ):
            for address in given:
                if address.version == version:
                    yield row(address, port.port, kind, targets)
        if port.node_port:
            yield row(UNSPECIFIED[version], port.node_port, "NodePort", everywhere)


Place = tuple[IPAddress, int]


def _candidates(
    slices: Iterable[EndpointSlice], port: ServicePort, version: int
) -> Iterator[tuple[Place, SliceEndpoint]]:
    """Endpoints by where they listen. Slices name the ports of their endpoints as the Service does; the same name may
    mean another number in each. An endpoint that is in two slices for a moment counts once, the better one.
    """
    found: dict[Place, SliceEndpoint] = {}
    for each in slices:
        numbers = [known.port for known in each.ports if known.name == port.name and known.protocol == port.protocol]
        for endpoint in each.endpoints if numbers else ():
            if endpoint.address.version != version:
                continue
            for number in numbers:
                known = found.get((endpoint.address, number))
                if known is None or (endpoint.ready and not known.ready):
                    found[endpoint.address, number] = endpoint
    yield from found.items()


def backends(candidates: Mapping[Place, SliceEndpoint]) -> tuple[Backend, ...]:
    """Those that are ready; if nobody is, those that still serve while they terminate. In a stable order."""
    chosen = [(place, end) for place, end in candidates.items() if end.ready]
    if not chosen:
        chosen = [(place, end) for place, end in candidates.items() if end.serving and end.terminating]
    rows = [Backend(address, port, not end.ready, end.node) for (address, port), end in chosen]
    return tuple(sorted(rows, key=lambda row: (int(row.address), row.port)))
