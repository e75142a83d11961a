"""Rows about services: what the API says of them, and the addresses a node translates."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from cilium.tables.problems import Reason
from cilium.tables.types import IPAddress, IPNetwork, Labels


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


DEFAULT_WEIGHT = 100
"""Of an endpoint whose slice says nothing."""

REDIRECT_SUFFIX = ":local-redirect"
"""Follows the policy's name in `Frontend.service` of a redirect of no Service: a Service may be called the same."""


def shown_name(service: str) -> str:
    """`Frontend.service` for people: namespace and name of the Service, policy or pod."""
    return service.removesuffix(REDIRECT_SUFFIX)


FrontendKey = tuple[IPAddress, int, str, Scope]
"""(address, port, protocol, scope); of a node port, the unspecified address of its family."""


class Flaw(msgspec.Struct, frozen=True):
    """What cannot be understood of an object; the rest of it holds."""

    reason: Reason
    field: str
    """A path such as `spec.loadBalancerSourceRanges[1]`."""
    message: str
    """What is wrong and what to do."""


class LabelTerm(msgspec.Struct, frozen=True):
    """One term of a label selector that was written as text; terms are ANDed."""

    key: str
    operator: str
    """in, notin, exists, absent, > or <."""
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """`notin` and `absent` are true of labels that have no such key."""
        value = labels.get(self.key)
        match self.operator:
            case "in":
                return value in self.values
            case "notin":
                return value not in self.values
            case "exists":
                return value is not None
            case "absent":
                return value is None
        if value is None or not value.isdecimal():
            return False
        return int(value) > int(self.values[0]) if self.operator == ">" else int(value) < int(self.values[0])


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
    external_local: bool = False
    """externalTrafficPolicy: Local."""
    affinity_timeout: int = 0
    """Seconds of sessionAffinity: ClientIP; 0: none."""
    proxy_name: str = ""
    """Not empty: somebody else's service (label service.kubernetes.io/service-proxy-name)."""
    uid: str = ""
    source_ranges: tuple[IPNetwork, ...] = ()
    """loadBalancerSourceRanges, as far as they can be read."""
    source_deny: bool = False
    """`source_ranges` lists who may not ask (annotation service.cilium.io/src-ranges-policy)."""
    source_closed: bool = False
    """There are source ranges, and none of them can be read: nobody may ask."""
    health_check_node_port: int = 0
    topology: bool = False
    """Its traffic shall stay near: hints of its slices count (trafficDistribution, annotation topology-mode)."""
    algorithm: Algorithm | None = None
    """Annotation service.cilium.io/lb-algorithm."""
    forwarding: Forwarding | None = None
    """Annotation service.cilium.io/forwarding-mode."""
    exposed: str = ""
    """ClusterIP, NodePort or LoadBalancer: only addresses of this type (annotation service.cilium.io/type)."""
    nodes: tuple[LabelTerm, ...] = ()
    """On which nodes it is served, by their labels (annotations service.cilium.io/node and node-selector)."""
    flaws: tuple[Flaw, ...] = ()
    labels: Labels = ()
    """`k8s:key=value`, sorted: policies select services by them."""
    selector: Labels = ()
    """Labels of its pods, written likewise; empty: somebody else writes its EndpointSlices."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    def served_by(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels serves it. Headless services and those of another proxy are nobody's
        business here.
        """
        return not self.proxy_name and bool(self.cluster_ips) and all(term.matches(labels) for term in self.nodes)


class SliceEndpoint(msgspec.Struct, frozen=True):
    address: IPAddress
    ready: bool
    serving: bool
    terminating: bool
    node: str = ""
    zone: str = ""
    for_zones: tuple[str, ...] = ()
    for_nodes: tuple[str, ...] = ()


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
    weight: int = DEFAULT_WEIGHT
    """Of each of its endpoints (annotation service.cilium.io/weight); 0: they get no new connections."""
    flaws: tuple[Flaw, ...] = ()

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
    """Slots among those of the other backends; 0: known for the connections that it has, and gets no others."""


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
    """Keys of cilium_lb_skip: who is not redirected, by network namespace and by endpoint (local redirects' own
    backends); for them there may be a row of scope `original`.
    """

    @property
    def key(self) -> FrontendKey:
        return self.address, self.port, self.protocol, self.scope

    @property
    def serving(self) -> tuple[Backend, ...]:
        able = tuple(end for end in self.backends if end.weight)
        return tuple(end for end in able if not end.terminating) or able
