"""Rows about services: what the API says of them, and the addresses a node translates."""

from __future__ import annotations

import msgspec

from cilium.tables.types import IPAddress

FrontendKey = tuple[IPAddress, int, str]
"""(address, port, protocol); of a node port, the unspecified address of its family."""


class ServicePort(msgspec.Struct, frozen=True):
    name: str
    port: int
    protocol: str
    """TCP, UDP or SCTP."""
    node_port: int = 0


class Service(msgspec.Struct, frozen=True):
    """Table `services`, key `namespace/name`: core/v1 Service."""

    namespace: str
    name: str
    kind: str
    """ClusterIP, NodePort, LoadBalancer or ExternalName."""
    created: str = ""
    cluster_ips: tuple[IPAddress, ...] = ()
    """Empty: headless."""
    external_ips: tuple[IPAddress, ...] = ()
    load_balancer_ips: tuple[IPAddress, ...] = ()
    """Those that a node may answer for itself (ipMode VIP)."""
    ports: tuple[ServicePort, ...] = ()
    internal_local: bool = False
    """internalTrafficPolicy: Local."""
    affinity: bool = False
    """sessionAffinity: ClientIP."""
    proxy_name: str = ""
    """Not empty: somebody else's service (label service.kubernetes.io/service-proxy-name)."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class SliceEndpoint(msgspec.Struct, frozen=True):
    address: IPAddress
    ready: bool
    serving: bool
    terminating: bool
    node: str = ""
    zone: str = ""


class SlicePort(msgspec.Struct, frozen=True):
    name: str
    port: int
    protocol: str


class EndpointSlice(msgspec.Struct, frozen=True):
    """Table `endpoint-slices`, key `namespace/name`: discovery.k8s.io/v1 EndpointSlice."""

    namespace: str
    name: str
    service: str
    """Name of the Service in the same namespace; empty: of none."""
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[SlicePort, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def service_key(self) -> str:
        return f"{self.namespace}/{self.service}"


class Backend(msgspec.Struct, frozen=True):
    """Where a connection to a service may go."""

    address: IPAddress
    port: int
    terminating: bool = False
    """It serves only because nobody else does."""
    node: str = ""


class Frontend(msgspec.Struct, frozen=True):
    """Desired table `frontends`, key (`address`, `port`, `protocol`): a row of cilium_lb_services."""

    address: IPAddress
    """Of a node port the unspecified one: it stands for every address of every node."""
    port: int
    protocol: str
    service: str
    """namespace/name."""
    port_name: str
    kind: str
    """ClusterIP, ExternalIP, LoadBalancer or NodePort."""
    backends: tuple[Backend, ...] = ()
    rivals: tuple[str, ...] = ()
    """Younger services that claim the same address and port, and do not get it."""

    @property
    def key(self) -> FrontendKey:
        return self.address, self.port, self.protocol
