"""The node's own devices: the pair cilium_host - cilium_net, and the overlay device.

In: names, MTU, router addresses. Out: `Link` rows of what exists afterwards. Idempotent: what is right stays untouched,
what differs is changed in place where the kernel can, and made anew where it cannot.
"""

from __future__ import annotations

import errno
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface

from cilium.datapath.errors import DatapathError, MissingFeature
from cilium.datapath.names import GENEVE_DEVICE, HOST_DEVICE, HOST_PEER, VXLAN_DEVICE
from cilium.datapath.netlink.links import NOARP, Geneve, Link, LinkChange, LinkName, Veth, Vxlan
from cilium.datapath.netlink.port import NetlinkBatchError, NetlinkPort
from cilium.datapath.netlink.rows import NODAD, SCOPE_LINK, SCOPE_UNIVERSE, Address
from cilium.datapath.netlink.sysctl import SysctlPort
from cilium.tables.types import IPAddress, IPInterface


class DeviceError(DatapathError):
    """A device of the node cannot be brought to what it shall be."""


def ensure_host_pair(netlink: NetlinkPort, sysctls: SysctlPort, *, mtu: int) -> tuple[Link, Link]:
    """(cilium_host, cilium_net), up, without ARP and without reverse path filtering. Raises DeviceError."""
    pair = (HOST_DEVICE, HOST_PEER)
    try:
        host, net = map(netlink.link, pair)
        if host is None or net is None or host.kind != "veth" or net.kind != "veth" or host.lower != net.ifindex:
            netlink.remove(*map(LinkName, pair))
            netlink.put(Veth(*pair, mtu=mtu, up=False))
            netlink.put(*(LinkChange(name=each, link_local=False) for each in pair))
        for each in pair:
            sysctls.write(f"net/ipv4/conf/{each}/rp_filter", 0)
            sysctls.write(f"net/ipv4/conf/{each}/forwarding", 1)
            sysctls.write(f"net/ipv6/conf/{each}/forwarding", 1)
            bring_up(netlink, each, mtu=mtu, arp=False)
    except NetlinkBatchError as error:
        raise DeviceError(f"set up {' and '.join(pair)}: {error}") from None
    return _present(netlink, HOST_DEVICE), _present(netlink, HOST_PEER)


def ensure_vxlan(netlink: NetlinkPort, sysctls: SysctlPort, *, mtu: int, port: int) -> Link:
    """The VXLAN overlay device, tunnel keys per packet. Raises DeviceError, MissingFeature."""
    return _ensure_tunnel(netlink, sysctls, Vxlan(VXLAN_DEVICE, port, mtu))


def ensure_geneve(netlink: NetlinkPort, sysctls: SysctlPort, *, mtu: int, port: int) -> Link:
    """The Geneve overlay device, tunnel keys per packet. Raises DeviceError, MissingFeature."""
    return _ensure_tunnel(netlink, sysctls, Geneve(GENEVE_DEVICE, port, mtu))


def _ensure_tunnel(netlink: NetlinkPort, sysctls: SysctlPort, wanted: Vxlan | Geneve) -> Link:
    kind = type(wanted).__name__.lower()
    try:
        found = netlink.link(wanted.name)
        if found is not None and not wanted.matches(found):
            netlink.remove(LinkName(wanted.name))
            found = None
        if found is None:
            netlink.put(wanted)
        sysctls.write(f"net/ipv4/conf/{wanted.name}/rp_filter", 0)
        sysctls.write(f"net/ipv4/conf/{wanted.name}/forwarding", 1)
        bring_up(netlink, wanted.name, mtu=wanted.mtu)
    except NetlinkBatchError as error:
        if error.first.errno == errno.EOPNOTSUPP:
            way_out = f"load the module {kind}, choose the other tunnel protocol, or route natively"
            raise MissingFeature(f"{wanted}: this kernel has no {kind}; {way_out}") from None
        raise DeviceError(f"set up {wanted}: {error}; is another overlay using the port?") from None
    return _present(netlink, wanted.name)


def bring_up(netlink: NetlinkPort, name: str, *, mtu: int, arp: bool = True) -> None:
    """Up, with this MTU and ARP as said; writes only what differs. Raises NetlinkBatchError."""
    found = netlink.link(name)
    if found is None or not (found.up and found.mtu == mtu and bool(found.flags & NOARP) is not arp):
        netlink.put(LinkChange(name=name, up=True, arp=arp, mtu=mtu))


def ensure_addresses(netlink: NetlinkPort, link: Link, addresses: Collection[IPAddress]) -> None:
    """Give a device exactly these addresses, as single hosts (others but link-local ones go). Raises DeviceError."""
    wanted: set[IPInterface] = {IPv4Interface(a) if isinstance(a, IPv4Address) else IPv6Interface(a) for a in addresses}
    found = {a.interface: a for a in netlink.addresses() if a.ifindex == link.ifindex}
    stale = [row for key, row in found.items() if key not in wanted and not key.ip.is_link_local]
    missing = [Address(link.ifindex, key, NODAD, _scope(key)) for key in sorted(wanted - found.keys(), key=str)]
    try:
        netlink.put(*missing)
        netlink.remove(*stale)
    except NetlinkBatchError as error:
        raise DeviceError(f"set the addresses of {link.name}: {error}") from None


def remove_device(netlink: NetlinkPort, name: str) -> None:
    """Idempotent. Raises NetlinkBatchError."""
    netlink.remove(LinkName(name))


def _scope(interface: IPInterface) -> int:
    """The router's IPv4 address is of use on the link only: never the source of what the node sends elsewhere."""
    return SCOPE_LINK if interface.version == 4 else SCOPE_UNIVERSE


def _present(netlink: NetlinkPort, name: str) -> Link:
    found = netlink.link(name)
    if found is None:
        raise DeviceError(f"interface {name}: it vanished while it was set up; something else removes it")
    return found
