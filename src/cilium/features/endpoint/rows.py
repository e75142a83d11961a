"""Tables that endpoint management owns."""

from __future__ import annotations

import msgspec

from cilium.tables.kubernetes import NamedPort
from cilium.tables.types import Identity, Ifindex, IPAddress, Labels, PolicyId


class EndpointMapEntry(msgspec.Struct, frozen=True):
    """Desired table `endpoint-map`, key `address`: a row of the BPF map cilium_lxc.

    Without a policy computed for it an endpoint is `not_ready`: the datapath drops both directions.
    """

    address: IPAddress
    endpoint: int
    identity: Identity
    ifindex: Ifindex = Ifindex(0)
    mac: str = ""
    host_mac: str = ""
    ingress_policy: PolicyId = PolicyId(0)
    egress_policy: PolicyId = PolicyId(0)
    host: bool = False
    health: bool = False
    not_ready: bool = False
    audit: bool = False


class EndpointObject(msgspec.Struct, frozen=True):
    """Desired table `endpoint-objects`, key `namespace/name`: a CiliumEndpoint this node publishes."""

    namespace: str
    name: str
    endpoint: int
    pod_uid: str
    identity: Identity
    labels: Labels
    addresses: tuple[IPAddress, ...]
    node_ip: IPAddress
    named_ports: tuple[NamedPort, ...]
    ingress_enforced: bool
    egress_enforced: bool
    deletions: int = 0
    """How often somebody else has deleted the object: each time it is written again."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"
