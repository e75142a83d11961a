"""Service of core/v1 and EndpointSlice of discovery.k8s.io/v1."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from sys import intern

import msgspec

from cilium.sources.kubernetes.decoders import service_annotations as asked
from cilium.sources.kubernetes.decoders.wire import Metadata, Raw, addresses
from cilium.sources.kubernetes.errors import ObjectError
from cilium.tables.labels import kubernetes_labels
from cilium.tables.problems import Reason
from cilium.tables.services import (
    Algorithm,
    EndpointSlice,
    Flaw,
    Forwarding,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)
from cilium.tables.types import IPAddress

PROXY_NAME = "service.kubernetes.io/service-proxy-name"
HEADLESS = "service.kubernetes.io/headless"
SERVICE_NAME = "kubernetes.io/service-name"
AFFINITY_TIMEOUT = 10800
"""Seconds, where the Service does not say."""


class _Port(msgspec.Struct, rename="camel"):
    port: int
    name: str = ""
    protocol: str = "TCP"
    node_port: int = 0


class _ClientIP(msgspec.Struct, rename="camel"):
    timeout_seconds: int | None = None


class _AffinityConfig(msgspec.Struct):
    client_ip: _ClientIP | None = msgspec.field(default=None, name="clientIP")


class _Spec(msgspec.Struct, rename="camel"):
    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: list[str] | None = msgspec.field(default=None, name="clusterIPs")
    external_ips: list[str] | None = msgspec.field(default=None, name="externalIPs")
    ports: list[_Port] | None = None
    internal_traffic_policy: str | None = None
    external_traffic_policy: str | None = None
    session_affinity: str = "None"
    session_affinity_config: _AffinityConfig | None = None
    load_balancer_source_ranges: list[str] | None = None
    health_check_node_port: int = 0
    traffic_distribution: str | None = None
    selector: dict[str, str] | None = None


class _Ingress(msgspec.Struct, rename="camel"):
    ip: str = ""
    ip_mode: str = "VIP"


class _LoadBalancer(msgspec.Struct):
    ingress: list[_Ingress] | None = None


class _Status(msgspec.Struct, rename="camel"):
    load_balancer: _LoadBalancer = msgspec.field(default_factory=_LoadBalancer)


class _Service(msgspec.Struct):
    metadata: Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class _Conditions(msgspec.Struct):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _Hint(msgspec.Struct):
    name: str = ""


class _Hints(msgspec.Struct, rename="camel"):
    for_zones: list[_Hint] | None = None
    for_nodes: list[_Hint] | None = None


class _Endpoint(msgspec.Struct, rename="camel"):
    addresses: list[str]
    conditions: _Conditions = msgspec.field(default_factory=_Conditions)
    node_name: str | None = None
    zone: str | None = None
    hints: _Hints | None = None


class _SlicePort(msgspec.Struct):
    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class _Slice(msgspec.Struct, rename="camel"):
    metadata: Metadata
    address_type: str
    endpoints: list[_Endpoint] | None = None
    ports: list[_SlicePort] | None = None


_services = msgspec.json.Decoder(_Service)
_slices = msgspec.json.Decoder(_Slice)


def decode_service(raw: Raw) -> Service:
    service = _services.decode(raw)
    metadata, spec = service.metadata, service.spec
    labels, annotations = metadata.labels or {}, metadata.annotations or {}
    flaws: list[Flaw] = []
    ingress = [entry.ip for entry in service.status.load_balancer.ingress or () if entry.ip_mode == "VIP"]
    balanced = spec.type == "LoadBalancer"
    ranges = asked.source_ranges(spec.load_balancer_source_ranges or (), flaws)
    return Service(
        namespace=metadata.namespace,
        name=metadata.name,
        kind=spec.type,
        created=metadata.creation_timestamp or "",
        cluster_ips=() if HEADLESS in labels else _cluster_ips(spec),
        external_ips=_reachable(spec.external_ips or (), "spec.externalIPs", flaws),
        load_balancer_ips=_reachable(ingress if balanced else (), "status.loadBalancer.ingress", flaws),
        ports=tuple(ServicePort(port.name, port.port, port.protocol, port.node_port) for port in spec.ports or ()),
        internal_local=spec.internal_traffic_policy == "Local",
        external_local=spec.external_traffic_policy == "Local",
        affinity_timeout=_affinity_timeout(spec),
        proxy_name=labels.get(PROXY_NAME, ""),
        uid=metadata.uid,
        source_ranges=ranges,
        source_deny=asked.choice(annotations, asked.RANGES_POLICY, asked.RangesPolicy, flaws)
        is asked.RangesPolicy.DENY,
        source_closed=bool(spec.load_balancer_source_ranges) and not ranges,
        health_check_node_port=spec.health_check_node_port,
        topology=asked.wants_to_stay_near(annotations, spec.traffic_distribution),
        algorithm=asked.choice(annotations, asked.ALGORITHM, Algorithm, flaws),
        forwarding=asked.choice(annotations, asked.FORWARDING, Forwarding, flaws),
        exposed=asked.choice(annotations, asked.TYPE, asked.ExposedType, flaws) or "",
        nodes=asked.nodes(annotations, flaws),
        flaws=tuple(flaws),
        labels=kubernetes_labels(labels),
        # Kubernetes ignores the selector of a name that leads elsewhere.
        selector=() if spec.type == "ExternalName" else kubernetes_labels(spec.selector or {}),
    )


def _reachable(texts: Sequence[str], field: str, flaws: list[Flaw]) -> tuple[IPAddress, ...]:
    """Those that clients may ask; others stand for every address of every node, or for whoever asks."""
    found: list[IPAddress] = []
    for index, text in enumerate(texts):
        for address in addresses([text], f"{field}[{index}]"):
            if address.is_unspecified or address.is_loopback or address.is_multicast:
                message = f"{address} is not the address of one host that others could ask; write one that is"
                flaws.append(Flaw(Reason.NOT_SERVED, f"{field}[{index}]", message))
            else:
                found.append(address)
    return tuple(found)


def _cluster_ips(spec: _Spec) -> tuple[IPAddress, ...]:
    given = spec.cluster_ips or [spec.cluster_ip]
    return () if "None" in given or spec.type == "ExternalName" else addresses(given, "spec.clusterIPs")


def _affinity_timeout(spec: _Spec) -> int:
    if spec.session_affinity != "ClientIP":
        return 0
    config = spec.session_affinity_config
    given = config.client_ip.timeout_seconds if config is not None and config.client_ip is not None else None
    return given or AFFINITY_TIMEOUT


def decode_endpoint_slice(raw: Raw) -> EndpointSlice | None:
    """None for slices of host names (addressType FQDN): nothing a node can translate to."""
    found = _slices.decode(raw)
    if found.address_type not in ("IPv4", "IPv6"):
        return None
    flaws: list[Flaw] = []
    return EndpointSlice(
        namespace=found.metadata.namespace,
        name=found.metadata.name,
        service=(found.metadata.labels or {}).get(SERVICE_NAME, ""),
        endpoints=tuple(
            _endpoint(endpoint, found.address_type) for endpoint in found.endpoints or () if endpoint.addresses
        ),
        ports=tuple(
            SlicePort(port.name or "", port.port, port.protocol or "TCP")
            for port in found.ports or ()
            if port.port is not None
        ),
        weight=asked.weight(found.metadata.annotations or {}, flaws),
        flaws=tuple(flaws),
    )


def _endpoint(endpoint: _Endpoint, family: str) -> SliceEndpoint:
    """Consumers use the first address only; a condition that is not known is read in the endpoint's favour."""
    conditions = endpoint.conditions
    ready = conditions.ready is not False
    try:
        address: IPAddress = (
            IPv4Address(endpoint.addresses[0]) if family == "IPv4" else IPv6Address(endpoint.addresses[0])
        )
    except ValueError as error:
        raise ObjectError("endpoints.addresses", str(error)) from error
    return SliceEndpoint(
        address=address,
        ready=ready,
        serving=ready if conditions.serving is None else conditions.serving,
        terminating=bool(conditions.terminating),
        node=intern(endpoint.node_name or ""),  # many endpoints, few nodes
        zone=intern(endpoint.zone or ""),
        for_zones=_names(endpoint.hints.for_zones) if endpoint.hints else (),
        for_nodes=_names(endpoint.hints.for_nodes) if endpoint.hints else (),
    )


def _names(hints: list[_Hint] | None) -> tuple[str, ...]:
    return tuple(intern(hint.name) for hint in hints or ())
