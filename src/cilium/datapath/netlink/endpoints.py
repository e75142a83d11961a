"""A pod's interface: the veth pair, addresses and routes inside, in three exchanges with the kernel.

In: `EndpointPlan` and the descriptor of the pod's network namespace. Out: `EndpointDevices`. Half-made interfaces are
taken down again. Blocking, some milliseconds (the kernel's own): call it from a thread; several may run at once.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_network

from cilium.datapath.errors import DatapathError
from cilium.datapath.netlink.links import LinkChange, LinkName, Veth
from cilium.datapath.netlink.netns import netns_cookie, run_in_netns
from cilium.datapath.netlink.port import Netlink, NetlinkBatchError
from cilium.datapath.netlink.rows import SCOPE_LINK, SCOPE_UNIVERSE, Address, Route
from cilium.datapath.netlink.sysctl import SysctlPort, Sysctls
from cilium.tables.types import IPAddress, IPInterface

_PROTOCOL_BOOT = 3  # RTPROT_BOOT: inside the pod nothing prunes by mark


class EndpointError(DatapathError):
    """A pod's interface cannot be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPlan:
    """What the interface shall be. `gateways`: the router's address per family; `mtu` is the device's,
    `route_mtu` that of what leaves by the default routes (0: the device's)."""

    host_name: str
    container_name: str
    addresses: tuple[IPAddress, ...]
    gateways: tuple[IPAddress, ...]
    mtu: int
    route_mtu: int = 0
    mac: str = ""
    host_mac: str = ""


@dataclass(frozen=True, slots=True)
class EndpointDevices:
    """What was made."""

    ifindex: int
    """Of the host side."""
    container_ifindex: int
    mac: str
    host_mac: str
    netns_cookie: int


@dataclass(frozen=True, slots=True)
class ContainerInterface:
    """What is found inside, for CNI CHECK."""

    ifindex: int
    mac: str
    mtu: int
    up: bool
    peer_ifindex: int
    addresses: tuple[IPInterface, ...]
    default_gateways: tuple[IPAddress, ...]


def random_mac() -> str:
    """Locally administered, unicast."""
    raw = bytearray(os.urandom(6))
    raw[0] = raw[0] & 0xFC | 0x02
    return bytes(raw).hex(":")


def set_up_endpoint(netns: int, plan: EndpointPlan, *, sysctls: SysctlPort | None = None) -> EndpointDevices:
    """Make the interface. Raises EndpointError naming what was refused; nothing is left behind then.

    A host side of that name left over from another pod is replaced; an interface of the wanted name inside is an error.
    """
    parameters = sysctls or Sysctls()
    node, pod = Netlink(), Netlink(netns)
    mac, host_mac = plan.mac or random_mac(), plan.host_mac or random_mac()
    veth = Veth(plan.host_name, plan.container_name, netns, plan.mtu, host_mac, mac, up=False)
    # The host side needs no address of its own: no link-local one, no duplicate detection, no router solicitations.
    wake = LinkChange(name=plan.host_name, up=True)
    try:
        if node.link(plan.host_name) is not None:
            node.remove(LinkName(plan.host_name))
        node.put(veth, LinkChange(name=plan.host_name, link_local=False), wake)
    except NetlinkBatchError as error:
        node.remove(LinkName(plan.host_name))
        raise EndpointError(_why(plan, error)) from None
    try:
        parameters.write(f"net/ipv4/conf/{plan.host_name}/rp_filter", 0)
        inside = pod.link(plan.container_name)
        host = node.link(plan.host_name)
        if inside is None or host is None:
            raise EndpointError(f"interface {plan.host_name}: it vanished while it was set up")
        ipv6 = any(address.version == 6 for address in plan.addresses)
        cookie = run_in_netns(netns, lambda: _prepare(parameters, ipv6=ipv6))
        pod.put(LinkChange(name="lo", up=True), LinkChange(inside.ifindex, up=True), *_inside(plan, inside.ifindex))
    except NetlinkBatchError as error:
        node.remove(LinkName(plan.host_name))
        raise EndpointError(_why(plan, error)) from None
    except BaseException:
        node.remove(LinkName(plan.host_name))
        raise
    return EndpointDevices(host.ifindex, inside.ifindex, mac, host_mac, cookie)


def tear_down_endpoint(host_name: str) -> None:
    """Remove the pair by its host side; idempotent. Raises NetlinkBatchError."""
    Netlink().remove(LinkName(host_name))


def inspect_endpoint(netns: int, container_name: str) -> ContainerInterface | None:
    """What is there inside; None without such an interface."""
    pod = Netlink(netns)
    link = pod.link(container_name)
    if link is None:
        return None
    gateways = (r.gateway for r in pod.routes() if r.default and r.ifindex == link.ifindex)
    return ContainerInterface(
        ifindex=link.ifindex,
        mac=link.mac,
        mtu=link.mtu,
        up=link.up,
        peer_ifindex=link.lower,
        addresses=tuple(a.interface for a in pod.addresses() if a.ifindex == link.ifindex),
        default_gateways=tuple(gateway for gateway in gateways if gateway is not None),
    )


def _inside(plan: EndpointPlan, ifindex: int) -> list[Address | Route]:
    """Addresses as single hosts; the router is reached on the link, everything else through it."""
    rows: list[Address | Route] = []
    for address in plan.addresses:
        interface = IPv4Interface(address) if isinstance(address, IPv4Address) else IPv6Interface(address)
        rows.append(Address(ifindex, interface))
    for gateway in plan.gateways:
        if not any(address.version == gateway.version for address in plan.addresses):
            continue
        host = ip_network(gateway)
        everything = IPv4Network("0.0.0.0/0") if gateway.version == 4 else IPv6Network("::/0")
        on_link = SCOPE_LINK if gateway.version == 4 else SCOPE_UNIVERSE
        rows.append(Route(host, ifindex, scope=on_link, mtu=plan.route_mtu, protocol=_PROTOCOL_BOOT))
        rows.append(Route(everything, ifindex, gateway, mtu=plan.route_mtu, protocol=_PROTOCOL_BOOT))
    return rows


def _prepare(parameters: SysctlPort, *, ipv6: bool) -> int:
    """Inside the namespace: IPv6, which container runtimes may have switched off in new ones. Returns its cookie."""
    for device in ("all", "default") if ipv6 else ():
        parameters.write(f"net/ipv6/conf/{device}/disable_ipv6", 0)
    return netns_cookie()


def _why(plan: EndpointPlan, error: NetlinkBatchError) -> str:
    first = error.first
    if isinstance(first.row, Veth) and first.errno == errno.EEXIST:
        return (
            f"interface {plan.container_name} exists in the pod's network namespace already; "
            "another plugin or an earlier ADD made it: delete it first (CNI DEL)"
        )
    if isinstance(first.row, Veth) and first.errno in (errno.EINVAL, errno.EBADF):
        return f"set up interface {plan.host_name}: the pod's network namespace is none, or has gone ({first})"
    return f"set up interface {plan.host_name}: {error}"
