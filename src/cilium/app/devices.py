"""The kernel's network as features need it: pods' interfaces, routes, links of programs, the node's own devices.

In: settings. Out: ports for the features. Calls that wait for the kernel run in threads, never in the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from cilium.datapath.errors import DatapathError
from cilium.datapath.hooks import XdpLinks
from cilium.datapath.links import DeviceLinks, device_links
from cilium.datapath.names import GENEVE_DEVICE, VXLAN_DEVICE
from cilium.datapath.netlink import rows
from cilium.datapath.netlink.devices import (
    ensure_addresses,
    ensure_geneve,
    ensure_host_pair,
    ensure_vxlan,
    remove_device,
)
from cilium.datapath.netlink.endpoints import EndpointPlan, inspect_endpoint, set_up_endpoint, tear_down_endpoint
from cilium.datapath.netlink.local_ports import reserve
from cilium.datapath.netlink.port import Netlink
from cilium.datapath.netlink.sysctl import Sysctls
from cilium.datapath.xdp import KernelXdp
from cilium.features.endpoint.manager import Link
from cilium.features.node.rows import Route
from cilium.settings import RoutingMode, Settings, TunnelProtocol
from cilium.sources.netlink.source import NetlinkSource
from cilium.state import Table
from cilium.tables.devices import Device
from cilium.tables.nodes import NodeAddressing
from cilium.tables.types import Ifindex, IPAddress, IPNetwork


class PodLinks:
    """features.endpoint.manager.Links over netlink."""

    async def connect(
        self,
        *,
        ifname: str,
        container_ifname: str,
        netns_fd: int,
        addresses: Sequence[IPAddress],
        gateways: Sequence[IPAddress],
        mtu: int,
    ) -> Link:
        plan = EndpointPlan(
            host_name=ifname,
            container_name=container_ifname,
            addresses=tuple(addresses),
            gateways=tuple(gateways),
            mtu=mtu,
        )
        try:
            made = await asyncio.to_thread(set_up_endpoint, netns_fd, plan)
        except DatapathError as error:
            raise OSError(str(error)) from error
        return Link(ifindex=Ifindex(made.ifindex), mac=made.mac, host_mac=made.host_mac, netns_cookie=made.netns_cookie)

    async def disconnect(self, ifname: str) -> None:
        try:
            await asyncio.to_thread(tear_down_endpoint, ifname)
        except DatapathError as error:
            raise OSError(str(error)) from error

    async def find(self, ifname: str) -> Ifindex | None:
        found = Netlink().link(ifname)
        return None if found is None else Ifindex(found.ifindex)

    async def inspect(self, *, netns_fd: int, container_ifname: str) -> Sequence[IPAddress]:
        try:
            found = await asyncio.to_thread(inspect_endpoint, netns_fd, container_ifname)
        except DatapathError as error:
            raise OSError(str(error)) from error
        if found is None:
            raise OSError("it does not exist")
        return [interface.ip for interface in found.addresses]


class NodeRoutes:
    """features.node.ops.RoutePort over netlink: routes of the main table that bear our protocol number."""

    def __init__(self) -> None:
        self._netlink = Netlink()

    async def replace(self, route: Route) -> None:
        device = self._netlink.link(route.device)
        if device is None:
            raise OSError(f"route {route.destination}: no device {route.device}")
        scope = rows.SCOPE_LINK if route.gateway is None and route.destination.version == 4 else rows.SCOPE_UNIVERSE
        self._netlink.put(
            rows.Route(
                destination=route.destination,
                ifindex=device.ifindex,
                gateway=route.gateway,
                source=route.source,
                mtu=route.mtu,
                scope=scope,
            )
        )

    async def remove(self, route: Route) -> None:
        self._netlink.remove(rows.Route(destination=route.destination))

    async def destinations(self) -> Sequence[IPNetwork]:
        found = self._netlink.routes(rows.TABLE_MAIN)
        return [route.destination for route in found if route.protocol == rows.PROTOCOL_CILIUM]


class Network:
    """The ports, made once; `run` keeps `devices` true."""

    def __init__(self, settings: Settings, devices: Table[int, Device]) -> None:
        self.pods = PodLinks()
        self.routes = NodeRoutes()
        self.links: DeviceLinks = device_links()
        self.xdp: XdpLinks = KernelXdp()
        self._source = NetlinkSource(table=devices, names=settings.routing.devices)
        self.run = self._source.run
        self.set_node_addresses = self._source.set_node_addresses


@dataclass(frozen=True, kw_only=True)
class NodeDevices:
    """Interface indexes of the node's own devices; 0: there is none."""

    host: int
    host_mac: str
    tunnel: int


async def prepare_devices(settings: Settings, network: Network, node: NodeAddressing) -> NodeDevices:
    """cilium_host with the router addresses, and the overlay device in tunnel mode; that of another mode goes."""
    return await asyncio.to_thread(_prepare, settings, node)


def _prepare(settings: Settings, node: NodeAddressing) -> NodeDevices:
    netlink, sysctls = Netlink(), Sysctls()
    for name in ("net/ipv4/conf/all/rp_filter", "net/ipv4/conf/default/rp_filter"):
        sysctls.write(name, 0)
    for name, on in (("net/ipv4/ip_forward", settings.families.ipv4),
                     ("net/ipv6/conf/all/forwarding", settings.families.ipv6)):  # fmt: skip
        if on:
            sysctls.write(name, 1)
    if settings.services.replacement and settings.services.range_protection:
        reserve(sysctls, *settings.services.node_port_range)
    host, _ = ensure_host_pair(netlink, sysctls, mtu=node.mtu)
    ensure_addresses(netlink, host, node.router_ips)
    routing = settings.routing
    if routing.mode is not RoutingMode.TUNNEL:
        remove_device(netlink, VXLAN_DEVICE)
        remove_device(netlink, GENEVE_DEVICE)
        return NodeDevices(host=host.ifindex, host_mac=host.mac, tunnel=0)
    if routing.tunnel_protocol is TunnelProtocol.VXLAN:
        remove_device(netlink, GENEVE_DEVICE)
        tunnel = ensure_vxlan(netlink, sysctls, mtu=node.mtu, port=routing.port)
    else:
        remove_device(netlink, VXLAN_DEVICE)
        tunnel = ensure_geneve(netlink, sysctls, mtu=node.mtu, port=routing.port)
    return NodeDevices(host=host.ifindex, host_mac=host.mac, tunnel=tunnel.ifindex)
