"""CiliumNode, CiliumEndpoint and CiliumIdentity of cilium.io/v2."""

from __future__ import annotations

import msgspec

from cilium.sources.kubernetes.decoders.wire import Metadata, Raw, addresses, networks
from cilium.sources.kubernetes.errors import ObjectError
from cilium.tables.kubernetes import CiliumEndpoint, CiliumIdentity, CiliumNode, NamedPort
from cilium.tables.types import Identity, Labels


class _NodeAddress(msgspec.Struct):
    type: str = ""
    ip: str = ""


class _AddressPair(msgspec.Struct):
    ipv4: str = ""
    ipv6: str = ""


class _IPAM(msgspec.Struct):
    pod_cidrs: list[str] | None = msgspec.field(default=None, name="podCIDRs")


class _NodeSpec(msgspec.Struct):
    addresses: list[_NodeAddress] | None = None
    health: _AddressPair = msgspec.field(default_factory=_AddressPair)
    ipam: _IPAM = msgspec.field(default_factory=_IPAM)
    bootid: str = ""


class _Node(msgspec.Struct):
    metadata: Metadata
    spec: _NodeSpec = msgspec.field(default_factory=_NodeSpec)


class _EndpointIdentity(msgspec.Struct):
    id: int = 0
    labels: list[str] | None = None


class _Networking(msgspec.Struct):
    addressing: list[_AddressPair] | None = None
    node: str = ""


class _EndpointStatus(msgspec.Struct, rename="kebab"):
    id: int = 0
    identity: _EndpointIdentity | None = None
    networking: _Networking | None = None
    named_ports: list[NamedPort] | None = None


class _Endpoint(msgspec.Struct):
    metadata: Metadata
    status: _EndpointStatus | None = None


class _Identity(msgspec.Struct):
    metadata: Metadata
    labels: dict[str, str] = msgspec.field(name="security-labels")


def decode_cilium_node(raw: Raw) -> CiliumNode:
    node = msgspec.json.decode(raw, type=_Node)
    spec = node.spec

    def of(kind: str) -> list[str]:
        return [entry.ip for entry in spec.addresses or () if entry.type == kind]

    return CiliumNode(
        name=node.metadata.name,
        labels=node.metadata.labels or {},
        internal_ips=addresses(of("InternalIP"), "spec.addresses"),
        router_ips=addresses(of("CiliumInternalIP"), "spec.addresses"),
        health_ips=addresses((spec.health.ipv4, spec.health.ipv6), "spec.health"),
        pod_cidrs=networks(spec.ipam.pod_cidrs or (), "spec.ipam.podCIDRs"),
        boot_id=spec.bootid,
    )


def decode_cilium_endpoint(raw: Raw) -> CiliumEndpoint | None:
    """None as long as its agent has not said who and where it is."""
    endpoint = msgspec.json.decode(raw, type=_Endpoint)
    metadata, status = endpoint.metadata, endpoint.status
    if status is None or status.identity is None or status.networking is None:
        return None
    pairs = status.networking.addressing or ()
    node = addresses((status.networking.node,), "status.networking.node")
    owners = metadata.owner_references or ()
    return CiliumEndpoint(
        namespace=metadata.namespace,
        name=metadata.name,
        endpoint_id=status.id,
        identity=Identity(status.identity.id),
        labels=tuple(sorted(status.identity.labels or ())),
        ips=addresses((ip for pair in pairs for ip in (pair.ipv4, pair.ipv6)), "status.networking.addressing"),
        node_ip=node[0] if node else None,
        named_ports=tuple(status.named_ports or ()),
        pod_uid=next((owner.uid for owner in owners if owner.kind == "Pod"), ""),
    )


def decode_cilium_identity(raw: Raw) -> CiliumIdentity:
    identity = msgspec.json.decode(raw, type=_Identity)
    name = identity.metadata.name
    if not (name.isascii() and name.isdigit()):
        raise ObjectError("metadata.name", f"{name!r} is no number, and the name of an identity is its number")
    return CiliumIdentity(
        id=Identity(int(name)),
        labels=security_labels(identity.labels),
        created=identity.metadata.creation_timestamp or "",
    )


def security_labels(labels: dict[str, str]) -> Labels:
    """`{"k8s:app": "web"}` as sorted `k8s:app=web`; labels of source `reserved` have no value to show."""
    return tuple(
        sorted(key if not value and key.startswith("reserved:") else f"{key}={value}" for key, value in labels.items())
    )
