"""What exists before features do: settings, the settled node, tables, and the loaded datapath."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cilium.app.datapath import Datapath
from cilium.app.devices import Network
from cilium.app.inspection import Inspection
from cilium.app.objects import ObjectWrites
from cilium.app.tables import AgentTables
from cilium.features.ipam.allocator import Allocator
from cilium.features.policy.trial_cell import HostFirewall
from cilium.hubble.server import HubbleServer
from cilium.settings import RoutingMode, Settings
from cilium.sources.kubernetes.tables import KubernetesTables
from cilium.tables.nodes import NodeAddressing
from cilium.tables.types import IPAddress

TUNNEL_OVERHEAD = {4: 50, 6: 70}
"""Bytes that VXLAN and Geneve without options add, by the IP version of the underlay."""


@dataclass(kw_only=True)
class Built:
    """What features are built from."""

    settings: Settings
    node: NodeAddressing
    tables: AgentTables
    kubernetes: KubernetesTables
    datapath: Datapath
    network: Network
    writes: ObjectWrites
    allocator: Allocator
    agent: Inspection
    state: Path
    host_firewall: HostFirewall | None = None
    hubble: HubbleServer | None = None

    @property
    def tunnel(self) -> bool:
        return self.settings.routing.mode is RoutingMode.TUNNEL

    @property
    def pod_mtu(self) -> int:
        """The device's in native mode, less what encapsulation adds in tunnel mode."""
        return self.node.mtu - (TUNNEL_OVERHEAD[self.underlay.version] if self.tunnel else 0)

    @property
    def underlay(self) -> IPAddress:
        """The address under which other nodes reach this one: IPv4 if the node has it."""
        return min(self.node.internal_ips, key=lambda address: address.version)
