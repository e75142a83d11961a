"""Namespace and Node of core/v1, and the EndpointSlices of the API server itself."""

from __future__ import annotations

import msgspec

from cilium.sources.kubernetes.decoders.wire import Metadata, Raw, addresses, networks
from cilium.tables.kubernetes import KubeApiservers, KubeNode, Namespace


class _Object(msgspec.Struct):
    metadata: Metadata


class _NodeSpec(msgspec.Struct):
    pod_cidr: str = msgspec.field(default="", name="podCIDR")
    pod_cidrs: list[str] | None = msgspec.field(default=None, name="podCIDRs")


class _Address(msgspec.Struct):
    type: str = ""
    address: str = ""


class _NodeStatus(msgspec.Struct):
    addresses: list[_Address] | None = None


class _Node(msgspec.Struct):
    metadata: Metadata
    spec: _NodeSpec = msgspec.field(default_factory=_NodeSpec)
    status: _NodeStatus = msgspec.field(default_factory=_NodeStatus)


class _Backend(msgspec.Struct):
    addresses: list[str] | None = None


class _EndpointSlice(msgspec.Struct):
    metadata: Metadata
    address_type: str = msgspec.field(default="", name="addressType")
    endpoints: list[_Backend] | None = None


def decode_kube_apiservers(raw: Raw) -> KubeApiservers:
    """Ready or not: an API server that starts is one already. Names (addressType FQDN) have no identity."""
    slice_ = msgspec.json.decode(raw, type=_EndpointSlice)
    backends = slice_.endpoints or () if slice_.address_type != "FQDN" else ()
    texts = (text for backend in backends for text in backend.addresses or ())
    return KubeApiservers(name=slice_.metadata.name, addresses=addresses(texts, "endpoints.addresses"))


def decode_namespace(raw: Raw) -> Namespace:
    metadata = msgspec.json.decode(raw, type=_Object).metadata
    return Namespace(metadata.name, metadata.labels or {}, metadata.annotations or {})


def decode_node(raw: Raw) -> KubeNode:
    node = msgspec.json.decode(raw, type=_Node)
    internal = (entry.address for entry in node.status.addresses or () if entry.type == "InternalIP")
    return KubeNode(
        name=node.metadata.name,
        labels=node.metadata.labels or {},
        annotations=node.metadata.annotations or {},
        internal_ips=addresses(internal, "status.addresses"),
        pod_cidrs=networks(node.spec.pod_cidrs or (node.spec.pod_cidr,), "spec.podCIDRs"),
        uid=node.metadata.uid,
    )
