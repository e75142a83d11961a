"""Which addresses stand for a service, who may ask them from where, and how they are served.

In: a Service, its slices, the settings, facts about this node. Out: rows of `frontends`, and flaws that only show here.

An address that is asked from outside has a row for each scope: whoever asks inside the cluster gets every backend with
`externalTrafficPolicy: Local`, too, and nobody inside is subject to source ranges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec

from cilium.features.services import selection
from cilium.settings import LoadBalancerMode
from cilium.settings.service_groups import ServiceSettings
from cilium.tables.problems import Reason
from cilium.tables.services import (
    Algorithm,
    Backend,
    EndpointSlice,
    Flaw,
    Forwarding,
    Frontend,
    Scope,
    Service,
    ServicePort,
)
from cilium.tables.types import IPAddress, IPNetwork

UNSPECIFIED: Mapping[int, IPAddress] = {4: IPv4Address(0), 6: IPv6Address(0)}
NOBODY: Mapping[int, IPNetwork] = {4: IPv4Network("0.0.0.0/32"), 6: IPv6Network("::/128")}
EVERYBODY: Mapping[int, IPNetwork] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}


@dataclass(frozen=True, kw_only=True)
class Place:
    """This node, as far as services depend on it."""

    name: str
    labels: Mapping[str, str]
    zone: str = ""
    addresses: tuple[IPAddress, ...] = ()
    """Those at which node ports answer, if not all do."""


@dataclass(frozen=True)
class Backends:
    """Behind one port in one family."""

    everywhere: tuple[Backend, ...]
    here: tuple[Backend, ...]
    usable: bool
    """Somebody somewhere may get new connections."""


class Exposure:
    """Rows of one service after the other. `versions`: IP versions that this node speaks."""

    def __init__(self, *, settings: ServiceSettings, versions: frozenset[int]) -> None:
        self._settings, self._versions = settings, versions
        self._protocols = ("TCP", "UDP", "SCTP") if settings.sctp else ("TCP", "UDP")

    def rows(self, service: Service, slices: Iterable[EndpointSlice], place: Place) -> Iterator[Frontend]:
        if not service.served_by(place.labels):
            return
        known = list(slices)
        versions = {address.version for address in service.cluster_ips} & self._versions
        for port in service.ports:
            for version in versions if port.protocol in self._protocols else ():
                ends = self._backends(service, port, version, known, place)
                for row in self._of_port(service, port, version, ends, place):
                    yield _same_port_only(row) if port.protocol == "SCTP" else row

    def flaws(self, service: Service, slices: Iterable[EndpointSlice], place: Place) -> Iterator[Flaw]:
        """Of a service that is served."""
        if not service.served_by(place.labels):
            return
        for flaw in service.flaws:
            if self._matters(flaw):
                yield flaw
        known = list(slices)
        for each in known:
            for flaw in each.flaws:
                yield Flaw(flaw.reason, f"EndpointSlice {each.name} {flaw.field}", flaw.message)
        for index, port in enumerate(service.ports):
            if port.protocol == "SCTP" or port.protocol not in self._protocols:
                yield from self._of_protocol(service, index, port, known)

    def _matters(self, flaw: Flaw) -> bool:
        """What a setting makes void is not read, so it is not wrong."""
        settings = self._settings
        if "/lb-algorithm" in flaw.field:
            return settings.algorithm_annotation
        if "/forwarding-mode" in flaw.field:
            return settings.mode_annotation
        if flaw.reason is Reason.SOURCE_RANGE or "/src-ranges-policy" in flaw.field:
            return settings.source_range_check
        return True

    def _of_protocol(
        self, service: Service, index: int, port: ServicePort, slices: Iterable[EndpointSlice]
    ) -> Iterator[Flaw]:
        field = f"spec.ports[{index}]"
        if port.protocol not in self._protocols:
            remedy = "set sctp.enabled to true" if port.protocol == "SCTP" else "TCP, UDP and SCTP are"
            yield Flaw(Reason.PORT, field, f"{port.port}/{port.protocol} is not served; {remedy}")
            return
        targets = {
            number
            for version in self._versions
            for _, number in selection.candidates(slices, port, version)
            if number != port.port
        }
        if targets:
            yield Flaw(
                Reason.PORT,
                field,
                f"{port.port}/SCTP is not served by backends on port {', '.join(map(str, sorted(targets)))}: an SCTP "
                "checksum covers the ports; make targetPort the same as port",
            )
        if port.node_port and port.node_port != port.port and service.kind == "NodePort":
            yield Flaw(
                Reason.PORT,
                f"{field}.nodePort",
                f"{port.node_port}/SCTP is not served: an SCTP checksum covers the ports; make nodePort, port and "
                "targetPort the same",
            )

    def _backends(
        self, service: Service, port: ServicePort, version: int, slices: Iterable[EndpointSlice], place: Place
    ) -> Backends:
        found = selection.candidates(slices, port, version)
        near = None
        if service.topology and self._settings.topology:
            near = selection.nearest(found, node=place.name, zone=place.zone)
        here: tuple[Backend, ...] = ()
        if service.internal_local or service.external_local:
            here = selection.backends(selection.local(found, place.name))
        return Backends(selection.backends(found, near), here, selection.usable(found))

    def _of_port(
        self, service: Service, port: ServicePort, version: int, ends: Backends, place: Place
    ) -> Iterator[Frontend]:
        for kind, address, number in self._addresses(service, port, version, place):
            cluster_ip = kind == "ClusterIP"
            for scope in (Scope.CLUSTER, Scope.EXTERNAL):
                outside = scope is Scope.EXTERNAL
                if outside and cluster_ip and not self._settings.external_cluster_ip:
                    continue
                local = service.internal_local if cluster_ip else outside and service.external_local
                yield Frontend(
                    address=address,
                    port=number,
                    protocol=port.protocol,
                    service=service.key,
                    port_name=port.name,
                    kind=kind,
                    backends=ends.here if local else ends.everywhere,
                    scope=scope,
                    # Where nobody is anywhere, clients are told: silence is for those whom another node would serve.
                    local=local and ends.usable,
                    affinity_timeout=service.affinity_timeout,
                    algorithm=self._algorithm(service) if outside else Algorithm.RANDOM,
                    forwarding=self._forwarding(service, port) if outside else Forwarding.SNAT,
                    source_ranges=self._source_ranges(service, kind, version) if outside else (),
                    source_deny=outside and self._restricted(service, kind) and service.source_deny,
                )

    def _addresses(
        self, service: Service, port: ServicePort, version: int, place: Place
    ) -> Iterator[tuple[str, IPAddress, int]]:
        for kind, given in (
            ("ClusterIP", service.cluster_ips),
            ("LoadBalancer", service.load_balancer_ips),
            ("ExternalIP", service.external_ips),
        ):
            if kind == "ExternalIP" or service.exposed in ("", kind):
                for address in given:
                    if address.version == version:
                        yield kind, address, port.port
        if (
            port.node_port
            and service.kind in ("NodePort", "LoadBalancer")
            and service.exposed in ("", "NodePort")
            and (port.protocol != "SCTP" or port.node_port == port.port)
        ):
            for address in self._node_port_addresses(version, place):
                yield "NodePort", address, port.node_port

    def _node_port_addresses(self, version: int, place: Place) -> Iterable[IPAddress]:
        """The unspecified address stands for every address of every node. A choice among the node's own cannot be said
        with it, so each of those gets a row; what is meant for other nodes goes there, and is translated there.
        """
        if not self._settings.node_port_addresses:
            return (UNSPECIFIED[version],)
        return [address for address in place.addresses if address.version == version]

    def _algorithm(self, service: Service) -> Algorithm:
        asked = service.algorithm if self._settings.algorithm_annotation else None
        return asked or Algorithm(self._settings.algorithm.value)

    def _forwarding(self, service: Service, port: ServicePort) -> Forwarding:
        if self._settings.mode_annotation and service.forwarding is not None:
            return service.forwarding
        mode = self._settings.mode
        direct = mode is LoadBalancerMode.DSR or (mode is LoadBalancerMode.HYBRID and port.protocol == "TCP")
        return Forwarding.DSR if direct else Forwarding.SNAT

    def _restricted(self, service: Service, kind: str) -> bool:
        """An external IP of a load balancer is another door to the same service."""
        if not self._settings.source_range_check or not (service.source_ranges or service.source_closed):
            return False
        return self._settings.source_range_all_types or (
            service.kind == "LoadBalancer" and kind in ("LoadBalancer", "ExternalIP")
        )

    def _source_ranges(self, service: Service, kind: str, version: int) -> tuple[IPNetwork, ...]:
        """Of the row's family. No range must not mean anybody where ranges were given."""
        if not self._restricted(service, kind):
            return ()
        if service.source_closed:
            return ((EVERYBODY if service.source_deny else NOBODY)[version],)
        return tuple(each for each in service.source_ranges if each.version == version) or (NOBODY[version],)


def _same_port_only(row: Frontend) -> Frontend:
    """SCTP: addresses can be translated, ports cannot."""
    kept = tuple(end for end in row.backends if end.port == row.port)
    if len(kept) == len(row.backends):
        return row
    return msgspec.structs.replace(row, backends=kept)
