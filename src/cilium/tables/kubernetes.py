"""Rows the Kubernetes source writes: slim, parsed, never a dict of the API past this line."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from cilium.tables.types import Identity, IPAddress, IPNetwork, Labels


class NamedPort(msgspec.Struct, frozen=True):
    name: str
    port: int
    protocol: str
    """TCP, UDP or SCTP."""


class HostPort(msgspec.Struct, frozen=True):
    """A port of a container that is to be reached at its node's addresses."""

    host_port: int
    container_port: int
    protocol: str
    """TCP, UDP or SCTP."""
    host_ip: str = ""
    """As it was written: only at this address; an unspecified one means every address of its family, none every
    address.
    """


class Pod(msgspec.Struct, frozen=True):
    """Table `pods`, key `namespace/name`."""

    namespace: str
    name: str
    uid: str
    node: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    service_account: str = "default"
    host_network: bool = False
    phase: str = ""
    ips: tuple[IPAddress, ...] = ()
    named_ports: tuple[NamedPort, ...] = ()
    workload_kind: str = ""
    workload_name: str = ""
    """The owner people think of: the Deployment, not its ReplicaSet."""
    deleting: bool = False
    ready: bool = False
    """Condition Ready."""
    host_ports: tuple[HostPort, ...] = ()
    created: str = ""
    """Only of pods with host ports, for which it matters who was first: a string per pod is much."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class Namespace(msgspec.Struct, frozen=True):
    """Table `namespaces`, key `name`."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


class KubeNode(msgspec.Struct, frozen=True):
    """Table `kube-nodes`, key `name`: core/v1 Node."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    internal_ips: tuple[IPAddress, ...] = ()
    pod_cidrs: tuple[IPNetwork, ...] = ()
    uid: str = ""


class KubeApiservers(msgspec.Struct, frozen=True):
    """Table `kube-apiservers`, key `name`: an EndpointSlice of the Service default/kubernetes."""

    name: str
    addresses: tuple[IPAddress, ...] = ()


class CiliumNode(msgspec.Struct, frozen=True):
    """Table `cilium-nodes`, key `name`: cilium.io/v2 CiliumNode."""

    name: str
    labels: Mapping[str, str]
    internal_ips: tuple[IPAddress, ...] = ()
    """Underlay addresses (type InternalIP)."""
    router_ips: tuple[IPAddress, ...] = ()
    """Addresses of cilium_host (type CiliumInternalIP)."""
    health_ips: tuple[IPAddress, ...] = ()
    pod_cidrs: tuple[IPNetwork, ...] = ()
    boot_id: str = ""


class CiliumEndpoint(msgspec.Struct, frozen=True):
    """Table `cilium-endpoints`, key `namespace/name`, index `identity`: cilium.io/v2 CiliumEndpoint."""

    namespace: str
    name: str
    endpoint_id: int
    identity: Identity
    labels: Labels
    ips: tuple[IPAddress, ...]
    node_ip: IPAddress | None
    named_ports: tuple[NamedPort, ...] = ()
    pod_uid: str = ""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class CiliumIdentity(msgspec.Struct, frozen=True):
    """Table `cilium-identities`, key `id`, index `labels`: cilium.io/v2 CiliumIdentity."""

    id: Identity
    labels: Labels
    created: str = ""
