"""Address to identity, and the node behind which the address lives."""

from __future__ import annotations

import msgspec

from cilium.tables.types import Identity, IPAddress, IPNetwork


class IPCacheEntry(msgspec.Struct, frozen=True):
    """Desired table `ipcache`, key `prefix` (cluster 0). Writer: features/ipcache.

    `source` says who knows it, strongest first: local, host, kubernetes (CiliumEndpoint), node, cidr.
    """

    prefix: IPNetwork
    identity: Identity
    tunnel_endpoint: IPAddress | None = None
    encrypt_key: int = 0
    skip_tunnel: bool = False
    source: str = ""
    owner: str = ""
    """namespace/name of the pod, or the node, for people."""
