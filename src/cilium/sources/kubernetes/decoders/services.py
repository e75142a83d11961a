"""Service of core/v1 and EndpointSlice of discovery.k8s.io/v1."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from sys import intern

import msgspec

from cilium.sources.kubernetes.decoders.wire import Metadata, Raw, addresses
from cilium.sources.kubernetes.errors import ObjectError
from cilium.tables.services import EndpointSlice, Service, ServicePort, SliceEndpoint, SlicePort
from cilium.tables.types import IPAddress

PROXY_NAME = "service.kubernetes.io/service-proxy-name"
SERVICE_NAME = "kubernetes.io/service-name"


class _Port(msgspec.Struct, rename="camel"):
    port: int
    name: str = ""
    protocol: str = "TCP"
    node_port: int = 0


class _Spec(msgspec.Struct, rename="camel"):
    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: list[str] | None = msgspec.field(default=None, name="clusterIPs")
    external_ips: list[str] | None = msgspec.field(default=None, name="externalIPs")
    ports: list[_Port] | None = None
    internal_traffic_policy: str = "Cluster"
    session_affinity: str = "None"


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


class _Endpoint(msgspec.Struct, rename="camel"):
    addresses: list[str]
    conditions: _Conditions = msgspec.field(default_factory=_Conditions)
    node_name: str | None = None
    zone: str | None = None


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
    given = spec.cluster_ips or [spec.cluster_ip]
    cluster = () if "None" in given or spec.type == "ExternalName" else addresses(given, "spec.clusterIPs")
    ingress = [entry.ip for entry in service.status.load_balancer.ingress or () if entry.ip_mode == "VIP"]
    return Service(
        namespace=metadata.namespace,
        name=metadata.name,
        kind=spec.type,
        created=metadata.creation_timestamp or "",
        cluster_ips=cluster,
        external_ips=addresses(spec.external_ips or (), "spec.externalIPs"),
        load_balancer_ips=addresses(ingress, "status.loadBalancer.ingress") if spec.type == "LoadBalancer" else (),
        ports=tuple(ServicePort(port.name, port.port, port.protocol, port.node_port) for port in spec.ports or ()),
        internal_local=spec.internal_traffic_policy == "Local",
        affinity=spec.session_affinity == "ClientIP",
        proxy_name=(metadata.labels or {}).get(PROXY_NAME, ""),
    )


def decode_endpoint_slice(raw: Raw) -> EndpointSlice | None:
    """None for slices of host names (addressType FQDN): nothing a node can translate to."""
    found = _slices.decode(raw)
    if found.address_type not in ("IPv4", "IPv6"):
        return None
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
    )
