"""What rule sets are computed from, and how kube-proxy names what it writes.

In: nothing. Out: services and the node's facts, for one address family at a time; hashes.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

MASQUERADE = 0x4000
"""The bit of a packet's mark that asks for masquerading."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """One port of one Service: the unit that kube-proxy makes chains for."""

    namespace: str
    name: str
    port_name: str
    cluster_ip: str
    port: int
    endpoints: tuple[Endpoint, ...]
    protocol: str = "tcp"
    node_port: int = 0
    external_ips: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """As comments have it: namespace/name:port."""
        name = f"{self.namespace}/{self.name}"
        return f"{name}:{self.port_name}" if self.port_name else name

    @property
    def external(self) -> bool:
        """Whether it is reached from outside, and so has a chain for that."""
        return bool(self.node_port or self.external_ips)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Of one node and address family."""

    version: int
    pods: str
    """The cluster's pod CIDR: traffic to cluster IPs from elsewhere is masqueraded."""
    services: str
    """The CIDR of cluster IPs."""
    addresses: tuple[str, ...] = ()
    """Where node ports answer in nftables mode; with iptables it is every address of the node."""


def digest(text: str, length: int) -> str:
    """The first letters of the base32 of the SHA-256."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:length]
