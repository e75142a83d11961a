"""Every shared table of the agent, in one place: the schema at a glance, and what `cilium-dbg statedb` enumerates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cilium.features.endpoint.rows import EndpointMapEntry, EndpointObject
from cilium.features.health.rows import HealthTarget, NodeHealth
from cilium.features.identity.rows import IdentityRequest
from cilium.features.ipam.rows import IPAllocation
from cilium.features.node.rows import NodeObject, Route
from cilium.features.node_ports.rows import NodePort
from cilium.features.programs.rows import Attachment, NetdevEntry, XdpDevice
from cilium.features.service_health.rows import HealthCheck
from cilium.features.services.rows import SocketHook
from cilium.state import Table
from cilium.tables.devices import Device
from cilium.tables.endpoints import Endpoint, EndpointIdentity
from cilium.tables.identities import IdentityRow, NodeIdentity
from cilium.tables.ipcache import IPCacheEntry
from cilium.tables.nodes import NodeAddressing
from cilium.tables.problems import Problem, ProblemKey
from cilium.tables.redirects import LocalRedirect
from cilium.tables.services import Frontend, FrontendKey
from cilium.tables.types import EndpointId, Identity, IPAddress, IPNetwork, Labels


class AgentTables:
    """Tables that start-up and features share. The Kubernetes source and the policy feature bring their own."""

    def __init__(self) -> None:
        # observed
        self.devices: Table[int, Device] = Table(
            "devices", key=lambda row: row.ifindex, indexes={"name": lambda row: (row.name,)}
        )
        self.endpoints: Table[EndpointId, Endpoint] = Table(
            "endpoints",
            key=lambda row: row.id,
            indexes={
                "container": lambda row: (row.container_id,),
                "pod": lambda row: (f"{row.namespace}/{row.pod}",) if row.pod else (),
            },
        )
        self.node_addressing: Table[str, NodeAddressing] = Table("node-addressing", key=lambda row: row.name)
        self.allocations: Table[IPAddress, IPAllocation] = Table("ip-allocations", key=lambda row: row.address)
        self.node_health: Table[tuple[str, str], NodeHealth] = Table("node-health", key=lambda row: row.key)
        self.xdp_devices: Table[str, XdpDevice] = Table("xdp-devices", key=lambda row: row.device)
        # computed
        self.identities: Table[Identity, IdentityRow] = Table("identities", key=lambda row: row.id)
        self.node_identities: Table[Identity, NodeIdentity] = Table("node-identities", key=lambda row: row.identity)
        self.endpoint_identities: Table[EndpointId, EndpointIdentity] = Table(
            "endpoint-identities", key=lambda row: row.endpoint
        )
        self.service_findings: Table[ProblemKey, Problem] = Table("service-findings", key=lambda row: row.key)
        self.host_port_frontends: Table[FrontendKey, Frontend] = Table("host-port-frontends", key=lambda row: row.key)
        self.redirect_frontends: Table[FrontendKey, Frontend] = Table("redirect-frontends", key=lambda row: row.key)
        self.local_redirects: Table[str, LocalRedirect] = Table("local-redirects", key=lambda row: row.key)
        self.node_ports: Table[tuple[int, str], NodePort] = Table("node-ports", key=lambda row: row.key)
        self.host_port_problems: Table[ProblemKey, Problem] = Table("host-port-problems", key=lambda row: row.key)
        self.redirect_problems: Table[ProblemKey, Problem] = Table("redirect-problems", key=lambda row: row.key)
        self.node_port_problems: Table[ProblemKey, Problem] = Table("node-port-problems", key=lambda row: row.key)
        self.health_check_problems: Table[ProblemKey, Problem] = Table("health-check-problems", key=lambda row: row.key)
        # desired: of the kernel
        self.endpoint_map: Table[IPAddress, EndpointMapEntry] = Table("endpoint-map", key=lambda row: row.address)
        self.ipcache: Table[IPNetwork, IPCacheEntry] = Table("ipcache", key=lambda row: row.prefix)
        self.routes: Table[IPNetwork, Route] = Table("routes", key=lambda row: row.destination)
        self.attachments: Table[tuple[str, str], Attachment] = Table("attachments", key=lambda row: row.key)
        self.netdevs: Table[int, NetdevEntry] = Table("netdevs", key=lambda row: row.ifindex)
        self.frontends: Table[FrontendKey, Frontend] = Table("frontends", key=lambda row: row.key)
        self.socket_hooks: Table[str, SocketHook] = Table("socket-hooks", key=lambda row: row.name)
        # desired: of this node's own sockets
        self.health_checks: Table[int, HealthCheck] = Table("health-checks", key=lambda row: row.port)
        # desired: of other nodes
        self.health_targets: Table[tuple[str, str], HealthTarget] = Table("health-targets", key=lambda row: row.key)
        # desired: of the API
        self.identity_requests: Table[Labels, IdentityRequest] = Table("identity-requests", key=lambda row: row.labels)
        self.endpoint_objects: Table[str, EndpointObject] = Table("endpoint-objects", key=lambda row: row.key)
        self.service_problems: Table[ProblemKey, Problem] = Table("service-problems", key=lambda row: row.key)
        self.node_objects: Table[str, NodeObject] = Table("node-objects", key=lambda row: row.name)

    def __iter__(self) -> Iterator[Table[Any, Any]]:
        return iter([table for table in vars(self).values() if isinstance(table, Table)])
