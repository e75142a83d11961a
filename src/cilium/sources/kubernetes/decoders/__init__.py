"""Objects of the API become rows: one decoder per kind, JSON in, a row out.

A decoder returns None for an object that is no row yet (an endpoint without an identity), and raises ObjectError or
msgspec.DecodeError, naming the field, for one that cannot be.
"""

from cilium.sources.kubernetes.decoders.cilium import (
    decode_cilium_endpoint,
    decode_cilium_identity,
    decode_cilium_node,
)
from cilium.sources.kubernetes.decoders.core import decode_kube_apiservers, decode_namespace, decode_node
from cilium.sources.kubernetes.decoders.pod import decode_pod
from cilium.sources.kubernetes.decoders.services import decode_endpoint_slice, decode_service

__all__ = [
    "decode_cilium_endpoint",
    "decode_cilium_identity",
    "decode_cilium_node",
    "decode_endpoint_slice",
    "decode_kube_apiservers",
    "decode_namespace",
    "decode_node",
    "decode_pod",
    "decode_service",
]
