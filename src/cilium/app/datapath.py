"""The datapath of this node: objects loaded with the node's constants, maps open, programs by name.

In: settings and the node's addresses. Out: what features write to. Programs are loaded once, whatever the number of
pods; maps that are pinned keep what they hold, so traffic goes on while the agent starts.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from cilium.app.devices import NodeDevices
from cilium.datapath.addresses import mac_bytes, prefix_bits
from cilium.datapath.generated import DsrDispatch as KernelDsr
from cilium.datapath.generated import RoutingMode as KernelRouting
from cilium.datapath.generated import TunnelProtocol as KernelTunnel
from cilium.datapath.generated.maps import MAPS
from cilium.datapath.layouts import changed_layouts_aside, refilling
from cilium.datapath.libbpf.objects import Program
from cilium.datapath.loader import Constant, LoadedObject, load
from cilium.datapath.maps import BpfMap, PinnedMap
from cilium.datapath.nested import Nested, NestedMap
from cilium.datapath.netlink.netns import netns_cookie
from cilium.datapath.paths import MAP_DIRECTORY, OBJECT_DIRECTORY
from cilium.datapath.ringbuf import RingBuffer
from cilium.datapath.runtime import Runtime
from cilium.settings import (
    Acceleration,
    AllowLocalhost,
    DenyResponse,
    DsrDispatch,
    MonitorAggregation,
    NoBackendResponse,
    RoutingMode,
    Settings,
)
from cilium.tables.nodes import NodeAddressing

OBJECTS = ("lxc", "host", "overlay", "netdev")
SERVICE_OBJECTS = ("sock",)
XDP_OBJECTS = ("xdp",)
SERVICE_MAPS = "cilium_lb_"
MAGLEV = "cilium_lb_maglev"
NOT_OPENED = ("cilium_events", "cilium_nat_work", "cilium_near", MAGLEV)
"""A ring and a map of maps, which are read otherwise, and room to work in, which is not pinned."""
EVERY_PACKET = (MonitorAggregation.NONE, MonitorAggregation.LOW)
SECOND = 1_000_000_000
DSR = {DsrDispatch.OPTION: KernelDsr.OPTION, DsrDispatch.GENEVE: KernelDsr.GENEVE}


@dataclass(frozen=True, kw_only=True)
class Datapath:
    """Loaded objects live as long as this does; attached programs and pinned maps longer."""

    objects: tuple[LoadedObject, ...]
    programs: Mapping[str, Program]
    maps: Mapping[str, BpfMap]
    """Every pinned map with elements, by name."""
    nested: Mapping[str, NestedMap]
    """Every pinned map of maps, by name."""
    runtime: Runtime
    refilling: bool = False
    """Maps that features write start empty because another version's had another layout; see app/refill.py."""

    def lost_events(self) -> int:
        """Events that did not fit into the ring since the map was made, over types and processors."""
        _, values = self.maps["cilium_events_lost"].dump()
        return int(values.sum())

    def ring(self) -> RingBuffer:
        return RingBuffer("cilium_events", overlap=mmap.PAGESIZE)


def load_datapath(settings: Settings, node: NodeAddressing, devices: NodeDevices) -> Datapath:
    """Raises a DatapathError that says what the kernel refused."""
    values = constants(settings, node, devices)
    sizes = map_sizes(settings)
    on = settings.services.replacement
    xdp = settings.services.acceleration is not Acceleration.DISABLED
    names = (*OBJECTS, *(SERVICE_OBJECTS if on else ()), *(XDP_OBJECTS if xdp else ()))
    with changed_layouts_aside(MAP_DIRECTORY):
        objects = tuple(_load(name, values, sizes) for name in names)
    runtime = Runtime(PinnedMap("cilium_runtime"))
    level = settings.events.aggregation
    runtime.configure(
        # Rules count at this interval also where nobody is told.
        aggregation=0 if settings.hubble.enabled and level in EVERY_PACKET else settings.events.interval,
        received=level is MonitorAggregation.NONE,
        events=settings.hubble.enabled,
    )
    return Datapath(
        objects=objects,
        programs={name: program for loaded in objects for name, program in loaded.programs.items()},
        maps={
            name: PinnedMap(name)
            for name in MAPS
            if name not in NOT_OPENED and (on or not name.startswith(SERVICE_MAPS))
        },
        nested={MAGLEV: Nested(PinnedMap(MAGLEV))} if on else {},
        runtime=runtime,
        refilling=refilling(MAP_DIRECTORY),
    )


def _load(name: str, values: Mapping[str, Constant], sizes: Mapping[str, int]) -> LoadedObject:
    return load(OBJECT_DIRECTORY / f"{name}.bpf.o", constants=values, max_entries=sizes)


def constants(settings: Settings, node: NodeAddressing, devices: NodeDevices) -> dict[str, Constant]:
    """Values of bpf/config/node.h."""
    routing = settings.routing
    tunnel = routing.mode is RoutingMode.TUNNEL
    found: dict[str, Constant] = {
        "config_routing_mode": KernelRouting.TUNNEL if tunnel else KernelRouting.NATIVE,
        "config_tunnel_port": routing.port,
        "config_tunnel_protocol": KernelTunnel[routing.tunnel_protocol.name],
        "config_tunnel_ifindex": devices.tunnel,
        "config_host_ifindex": devices.host,
        "config_host_mac": mac_bytes(devices.host_mac),
        "config_enable_ipv4": int(settings.families.ipv4),
        "config_enable_ipv6": int(settings.families.ipv6),
        "config_masquerade4": int(settings.masquerade_ipv4 and settings.masquerade.bpf),
        "config_masquerade6": int(settings.masquerade_ipv6 and settings.masquerade.bpf),
        "config_allow_localhost": int(settings.policy.allow_localhost is not AllowLocalhost.POLICY),
        "config_host_firewall": int(settings.host_firewall.enabled),
        "config_deny_response": int(settings.policy.deny_response is DenyResponse.ICMP),
        "config_fragments": int(settings.maps.fragments),
        "config_ct_tcp_syn": int(settings.conntrack.tcp_syn * SECOND),
        "config_ct_tcp_established": int(settings.conntrack.tcp * SECOND),
        "config_ct_tcp_closing": int(settings.conntrack.tcp_fin * SECOND),
        "config_ct_any": int(settings.conntrack.other * SECOND),
    }
    found |= service_constants(settings, node)
    for native in native_cidrs(settings, node):
        found[f"config_native{native.version}"] = native.network_address
        found[f"config_native{native.version}_bits"] = prefix_bits(native)
    return found


def service_constants(settings: Settings, node: NodeAddressing) -> dict[str, Constant]:
    services = settings.services
    low, high = services.node_port_range
    found: dict[str, Constant] = {
        "config_services": int(services.replacement),
        "config_node_port_min": low,
        "config_node_port_max": high,
        "config_host_netns_cookie": netns_cookie(),
        "config_maglev_size": services.maglev_table_size,
        "config_host_ports": int(services.host_port),
        "config_sock_host_only": int(services.socket_host_only),
        "config_dsr": DSR[services.dsr_dispatch] if services.uses_dsr else KernelDsr.OFF,
        "config_reject": int(services.no_backend_response is NoBackendResponse.REJECT),
        "config_loopback4": services.loopback_ipv4,
        "config_loopback6": services.loopback_ipv6,
    }
    return found | {f"config_router{address.version}": address for address in node.router_ips}


def native_cidrs(settings: Settings, node: NodeAddressing) -> list[IPv4Network | IPv6Network]:
    """Destinations that need no masquerading; in tunnel mode the node's own CIDR if nothing else is said."""
    found: list[IPv4Network | IPv6Network] = []
    for version, given in ((4, settings.routing.native_ipv4), (6, settings.routing.native_ipv6)):
        own = next((cidr for cidr in node.pod_cidrs if cidr.version == version), None)
        chosen = given or own
        if chosen is not None:
            found.append(chosen)
    return found


def map_sizes(settings: Settings) -> dict[str, int]:
    return {
        "cilium_ct": settings.conntrack.max_entries,
        "cilium_snat": settings.maps.nat_max,
        "cilium_policy": settings.maps.policy_max,
        "cilium_frags": settings.maps.fragments_max,
        "cilium_events": settings.events.ring_bytes,
        "cilium_lb_services": settings.services.services_max,
        "cilium_lb_slots": settings.services.slots_max,
        "cilium_lb_backends": settings.services.backends_max,
        "cilium_lb_reverse": settings.services.reverse_max,
        "cilium_lb_affinity": settings.services.affinity_max,
        "cilium_lb_affinity_match": settings.services.affinity_max,
        "cilium_lb_source_ranges": settings.services.source_range_max,
        MAGLEV: settings.services.maglev_max,
    }
