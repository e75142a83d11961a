"""Endpoints of this node, split by writer and joined by id."""

from __future__ import annotations

import msgspec

from cilium.tables.kubernetes import NamedPort
from cilium.tables.types import EndpointId, Identity, Ifindex, IPAddress, Labels, PolicyId


class Endpoint(msgspec.Struct, frozen=True):
    """Table `endpoints`, key `id`, indexes `pod` (namespace/name), `container`.

    Writer: features/endpoint, from CNI requests, from the state directory after a restart, and for the health
    endpoint. The node itself is an endpoint too: kind `host`, addresses of the node, no interface.
    """

    id: EndpointId
    kind: str
    """pod, health or host."""
    addresses: tuple[IPAddress, ...]
    container_id: str = ""
    container_ifname: str = "eth0"
    netns: str = ""
    ifname: str = ""
    """Host side of the veth pair."""
    ifindex: Ifindex = Ifindex(0)
    mac: str = ""
    host_mac: str = ""
    namespace: str = ""
    pod: str = ""
    pod_uid: str = ""
    created: str = ""
    """RFC 3339."""
    netns_cookie: int = 0
    """What programs call its network namespace (SO_NETNS_COOKIE); 0: not known."""


class EndpointIdentity(msgspec.Struct, frozen=True):
    """Table `endpoint-identities`, key `endpoint`. Writer: features/identity."""

    endpoint: EndpointId
    identity: Identity
    labels: Labels
    """Identity-relevant labels, sorted."""
    named_ports: tuple[NamedPort, ...] = ()


class EndpointPolicy(msgspec.Struct, frozen=True):
    """Table `endpoint-policies`, key `endpoint`. Writer: features/policy.

    An endpoint without a row here is not ready: nothing passes.
    """

    endpoint: EndpointId
    identity: Identity
    ingress: PolicyId
    egress: PolicyId
    """0: not enforced."""
    revision: int
    """Of the policy repository that this answers to."""
    audit: bool = False
