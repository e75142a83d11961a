"""Rows about services: what the API says of them, and the addresses a node translates."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from cilium.tables.types import IPAddress, IPNetwork


class Scope(StrEnum):
    """Who asks."""

    CLUSTER = "cluster"
    """Pods and nodes of the cluster."""
    EXTERNAL = "external"
    """Clients outside."""
    ORIGINAL = "original"
    """Pods that a local redirect redirects to, where it shall not redirect themselves: the row that it took the place
    of.
    """


class Algorithm(StrEnum):
    RANDOM = "random"
    MAGLEV = "maglev"


class Forwarding(StrEnum):
    """How packets of clients outside reach a backend of another node."""

    SNAT = "snat"
    """With an address of this node, through which replies come back."""
    DSR = "dsr"
    """With the client's; the backend's node answers in the service's name (direct server return)."""


FrontendKey = tuple[IPAddress, int, str, Scope]
"""(address, port, protocol, scope); of a node port, the unspecified address of its family."""


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
    """Connections that it has go on; it gets new ones only if nobody else is there."""
    node: str = ""
    weight: int = 1


class Frontend(msgspec.Struct, frozen=True):
    """Desired table `frontends`, key (`address`, `port`, `protocol`, `scope`): a row of cilium_lb_services."""

    address: IPAddress
    """Of a node port the unspecified one: it stands for every address of every node."""
    port: int
    protocol: str
    service: str
    """namespace/name."""
    port_name: str
    kind: str
    """ClusterIP, ExternalIP, LoadBalancer, NodePort, HostPort or LocalRedirect."""
    backends: tuple[Backend, ...] = ()
    """All that have or may get connections, in a stable order; `serving` are those that new ones go to."""
    rivals: tuple[str, ...] = ()
    """Younger services that claim the same address and port, and do not get it."""
    scope: Scope = Scope.CLUSTER
    algorithm: Algorithm = Algorithm.RANDOM
    """Maglev tables are kept for clients outside only: inside, nobody else has to make the same choice."""
    forwarding: Forwarding = Forwarding.SNAT
    local: bool = False
    """A traffic policy keeps it to backends of this node: if there are none, packets are dropped silently."""
    affinity_timeout: int = 0
    """Seconds; 0: no session affinity."""
    source_ranges: tuple[IPNetwork, ...] = ()
    """Who may ask from outside; empty: anybody."""
    source_deny: bool = False
    """`source_ranges` lists who may not."""
    skip_netns: tuple[int, ...] = ()
    """Keys of cilium_lb_skip: who is not redirected, by network namespace and by endpoint (local redirects' own backends);
    for them there may be a row of scope `original`.
    """

    @property
    def key(self) -> FrontendKey:
        return self.address, self.port, self.protocol, self.scope

    @property
    def serving(self) -> tuple[Backend, ...]:
        return tuple(end for end in self.backends if not end.terminating) or self.backends
