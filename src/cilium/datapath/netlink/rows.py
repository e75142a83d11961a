"""What rtnetlink manages besides devices, as frozen rows: addresses, routes.

In: typed values. Out: bodies of requests, and rows from the bodies of replies. The same rows are what `Netlink.put` and
`remove` take and what dumps return.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_address
from socket import AF_INET, AF_INET6

from cilium.datapath.netlink.wire import attribute, attributes, nested, u32
from cilium.tables.types import IPAddress, IPInterface, IPNetwork

ADDRESS_HEADER = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
ROUTE_HEADER = struct.Struct("=BBBBBBBBI")  # struct rtmsg

PROTOCOL_CILIUM = 193
"""Our mark on routes (rtm_protocol): what bears it is ours to prune."""
TABLE_MAIN = 254
SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_NOWHERE = 0, 253, 255
KIND_UNICAST = 1
NODAD = 2  # IFA_F_NODAD: usable at once, without duplicate address detection
ONLINK = 4  # RTNH_F_ONLINK

# Attributes, as include/uapi/linux/{if_addr,rtnetlink}.h name them.
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS, RTA_MULTIPATH = 1, 4, 5, 6, 7, 8, 9
RTA_TABLE, RTA_VIA, RTAX_MTU = 15, 18, 2


def family_of(address: IPAddress | IPNetwork | IPInterface) -> int:
    return AF_INET if address.version == 4 else AF_INET6


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a device."""

    ifindex: int
    interface: IPInterface
    flags: int = NODAD
    scope: int = SCOPE_UNIVERSE

    def __str__(self) -> str:
        return f"address {self.interface} of interface {self.ifindex}"

    def encode(self) -> bytes:
        family, bits = family_of(self.interface), self.interface.network.prefixlen
        packed = self.interface.ip.packed
        flags = self.flags if family == AF_INET6 else self.flags & ~NODAD
        header = ADDRESS_HEADER.pack(family, bits, 0, self.scope, self.ifindex)
        local = attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed) + attribute(IFA_FLAGS, flags)
        if family == AF_INET and bits < 31:
            local += attribute(IFA_BROADCAST, IPv4Interface(self.interface).network.broadcast_address.packed)
        return header + local

    @classmethod
    def decode(cls, body: bytes) -> Address | None:
        family, bits, flags, scope, ifindex = ADDRESS_HEADER.unpack_from(body)
        found = attributes(body, ADDRESS_HEADER.size)
        packed = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
        if family not in (AF_INET, AF_INET6) or packed is None:
            return None
        wide = u32(found.get(IFA_FLAGS)) or flags
        interface = IPv4Interface((packed, bits)) if family == AF_INET else IPv6Interface((packed, bits))
        return cls(ifindex, interface, wide, scope)


@dataclass(frozen=True, slots=True)
class Route:
    """A route with one next hop. `metric` 0 means the kernel's default (1024 for IPv6)."""

    destination: IPNetwork
    ifindex: int = 0
    gateway: IPAddress | None = None
    source: IPAddress | None = None
    table: int = TABLE_MAIN
    metric: int = 0
    scope: int = SCOPE_UNIVERSE
    kind: int = KIND_UNICAST
    mtu: int = 0
    onlink: bool = False
    protocol: int = PROTOCOL_CILIUM

    def __str__(self) -> str:
        via = f" via {self.gateway}" if self.gateway else ""
        return f"route {self.destination}{via} on interface {self.ifindex}, table {self.table}"

    @property
    def default(self) -> bool:
        return self.destination.prefixlen == 0

    def encode(self) -> bytes:
        family, bits = family_of(self.destination), self.destination.prefixlen
        header = ROUTE_HEADER.pack(
            family, bits, 0, 0, min(self.table, 252) if self.table > 255 else self.table,
            self.protocol, self.scope, self.kind, ONLINK if self.onlink else 0,
        )  # fmt: skip
        parts = [header, attribute(RTA_TABLE, self.table)]
        if bits:
            parts.append(attribute(RTA_DST, self.destination.network_address.packed))
        if self.ifindex:
            parts.append(attribute(RTA_OIF, self.ifindex))
        if self.gateway is not None and self.gateway.version == self.destination.version:
            parts.append(attribute(RTA_GATEWAY, self.gateway.packed))
        elif self.gateway is not None:  # RFC 8950: IPv4 through an IPv6 neighbour
            parts.append(attribute(RTA_VIA, struct.pack("=H", family_of(self.gateway)) + self.gateway.packed))
        if self.source is not None:
            parts.append(attribute(RTA_PREFSRC, self.source.packed))
        if self.metric:
            parts.append(attribute(RTA_PRIORITY, self.metric))
        if self.mtu:
            parts.append(nested(RTA_METRICS, attribute(RTAX_MTU, self.mtu)))
        return b"".join(parts)

    @classmethod
    def decode(cls, body: bytes) -> Route | None:
        family, bits, _src, _tos, table, protocol, scope, kind, flags = ROUTE_HEADER.unpack_from(body)
        if family not in (AF_INET, AF_INET6):
            return None
        found = attributes(body, ROUTE_HEADER.size)
        network = found.get(RTA_DST) or bytes(4 if family == AF_INET else 16)
        gateway = found.get(RTA_GATEWAY) or found.get(RTA_VIA, b"")[2:]
        source = found.get(RTA_PREFSRC)
        ifindex = u32(found.get(RTA_OIF))
        if not ifindex and (hops := found.get(RTA_MULTIPATH)):  # several next hops: the first stands for the route
            ifindex = struct.unpack_from("=HBBi", hops)[3]
            gateway = attributes(hops[: struct.unpack_from("=H", hops)[0]], 8).get(RTA_GATEWAY, b"")
        return cls(
            destination=IPv4Network((network, bits)) if family == AF_INET else IPv6Network((network, bits)),
            ifindex=ifindex,
            gateway=ip_address(gateway) if gateway else None,
            source=ip_address(source) if source else None,
            table=u32(found.get(RTA_TABLE)) or table,
            metric=u32(found.get(RTA_PRIORITY)),
            scope=scope,
            kind=kind,
            mtu=u32(attributes(found.get(RTA_METRICS, b"")).get(RTAX_MTU)),
            onlink=bool(flags & ONLINK),
            protocol=protocol,
        )
