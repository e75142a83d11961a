"""Network devices as rtnetlink describes them: what exists (`Link`), what to create (`Veth`, `Vxlan`), what to change.

In: typed values. Out: bodies of requests, and `Link` rows from replies.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from cilium.datapath.addresses import mac_bytes
from cilium.datapath.netlink.wire import attribute, attributes, nested, u32

LINK_HEADER = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
UP, NOARP = 0x1, 0x80
SKIP_STATISTICS = 8  # RTEXT_FILTER_SKIP_STATS, for EXT_MASK

_ADDRESS, _NAME, _MTU, _LOWER, _MASTER, _INFO, _AF_SPEC, _NETNS_FD, EXT_MASK = 1, 3, 4, 5, 10, 18, 26, 28, 29
_XDP, _XDP_ATTACHED = 43, 2
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_VXLAN_LEARNING, _VXLAN_PORT, _VXLAN_ZERO_CSUM6_TX, _VXLAN_ZERO_CSUM6_RX, _VXLAN_EXTERNAL = 7, 15, 19, 20, 25
_GENEVE_PORT, _GENEVE_EXTERNAL, _GENEVE_ZERO_CSUM6_TX, _GENEVE_ZERO_CSUM6_RX = 5, 6, 9, 10
_AF_INET6, _ADDR_GEN_MODE, _GEN_MODE_NONE = 10, 8, 1


@dataclass(frozen=True, slots=True)
class Link:
    """A device that exists."""

    ifindex: int
    name: str
    kind: str
    mac: str
    mtu: int
    flags: int
    lower: int = 0
    """The device below, or a veth's peer (in its own namespace)."""
    master: int = 0
    data: dict[int, bytes] = field(default_factory=dict, compare=False)
    """IFLA_INFO_DATA: what is particular to the kind."""
    xdp: int = field(default=0, compare=False)
    """XDP_ATTACHED_*: 1 in the driver, 2 generic, 0 no program."""

    @property
    def up(self) -> bool:
        return bool(self.flags & UP)

    @classmethod
    def decode(cls, body: bytes) -> Link:
        _family, _type, ifindex, flags, _change = LINK_HEADER.unpack_from(body)
        found = attributes(body, LINK_HEADER.size)
        info = attributes(found.get(_INFO, b""))
        return cls(
            ifindex=ifindex,
            name=found.get(_NAME, b"").rstrip(b"\0").decode(),
            kind=info.get(_INFO_KIND, b"").rstrip(b"\0").decode(),
            mac=found.get(_ADDRESS, b"").hex(":"),
            mtu=u32(found.get(_MTU)),
            flags=flags,
            lower=u32(found.get(_LOWER)),
            master=u32(found.get(_MASTER)),
            data=attributes(info.get(_INFO_DATA, b"")),
            xdp=u32(attributes(found.get(_XDP, b"")).get(_XDP_ATTACHED)),
        )


def _mac(mac: str) -> bytes:
    return attribute(_ADDRESS, mac_bytes(mac)) if mac else b""


def _mtu(mtu: int) -> bytes:
    return attribute(_MTU, mtu) if mtu else b""


@dataclass(frozen=True, slots=True)
class Veth:
    """A pair of devices to create; the peer is born in its namespace, with its name, and down.

    `peer_netns`: descriptor, -1 for the same namespace. `mtu` 0: the kernel's default; empty MACs: random ones.
    """

    name: str
    peer: str
    peer_netns: int = -1
    mtu: int = 0
    mac: str = ""
    peer_mac: str = ""
    up: bool = True

    def __str__(self) -> str:
        return f"veth pair {self.name} - {self.peer}"

    def encode(self) -> bytes:
        flags = UP if self.up else 0
        namespace = attribute(_NETNS_FD, self.peer_netns) if self.peer_netns >= 0 else b""
        peer = LINK_HEADER.pack(0, 0, 0, 0, 0) + attribute(_NAME, self.peer) + namespace
        peer += _mtu(self.mtu) + _mac(self.peer_mac)
        info = nested(_INFO, attribute(_INFO_KIND, "veth"), nested(_INFO_DATA, nested(_VETH_PEER, peer)))
        own = attribute(_NAME, self.name) + _mtu(self.mtu) + _mac(self.mac)
        return LINK_HEADER.pack(0, 0, 0, flags, flags) + own + info


@dataclass(frozen=True, slots=True)
class Vxlan:
    """A VXLAN device whose tunnel keys are set per packet (`external`) to create. RFC 7348; `port`: UDP."""

    name: str
    port: int
    mtu: int = 0
    mac: str = ""

    def __str__(self) -> str:
        return f"vxlan device {self.name} (port {self.port})"

    def encode(self) -> bytes:
        data = (
            attribute(_VXLAN_EXTERNAL, b"\1"),
            attribute(_VXLAN_PORT, struct.pack(">H", self.port)),
            attribute(_VXLAN_LEARNING, b"\0"),
            attribute(_VXLAN_ZERO_CSUM6_TX, b"\1"),
            attribute(_VXLAN_ZERO_CSUM6_RX, b"\1"),
        )
        info = nested(_INFO, attribute(_INFO_KIND, "vxlan"), nested(_INFO_DATA, *data))
        return LINK_HEADER.pack(0, 0, 0, UP, UP) + attribute(_NAME, self.name) + _mtu(self.mtu) + _mac(self.mac) + info

    def matches(self, link: Link) -> bool:
        """Whether an existing device is what this asks for; MTU and MAC can be changed in place."""
        port = int.from_bytes(link.data.get(_VXLAN_PORT, b""), "big")
        return link.kind == "vxlan" and port == self.port and link.data.get(_VXLAN_EXTERNAL) == b"\1"


@dataclass(frozen=True, slots=True)
class Geneve:
    """A Geneve device whose tunnel keys are set per packet (`external`) to create. RFC 8926; `port`: UDP."""

    name: str
    port: int
    mtu: int = 0
    mac: str = ""

    def __str__(self) -> str:
        return f"geneve device {self.name} (port {self.port})"

    def encode(self) -> bytes:
        data = (
            attribute(_GENEVE_EXTERNAL, b""),
            attribute(_GENEVE_PORT, struct.pack(">H", self.port)),
            attribute(_GENEVE_ZERO_CSUM6_TX, b"\1"),
            attribute(_GENEVE_ZERO_CSUM6_RX, b"\1"),
        )
        info = nested(_INFO, attribute(_INFO_KIND, "geneve"), nested(_INFO_DATA, *data))
        return LINK_HEADER.pack(0, 0, 0, UP, UP) + attribute(_NAME, self.name) + _mtu(self.mtu) + _mac(self.mac) + info

    def matches(self, link: Link) -> bool:
        """Whether an existing device is what this asks for; MTU and MAC can be changed in place."""
        port = int.from_bytes(link.data.get(_GENEVE_PORT, b""), "big")
        return link.kind == "geneve" and port == self.port and _GENEVE_EXTERNAL in link.data


@dataclass(frozen=True, slots=True)
class LinkChange:
    """What to change of a device: by `ifindex`, or by `name` when it is 0. None: leave it."""

    ifindex: int = 0
    name: str = ""
    up: bool | None = None
    arp: bool | None = None
    mtu: int = 0
    mac: str = ""
    link_local: bool = True
    """False: give it no IPv6 link-local address when it comes up."""

    def __str__(self) -> str:
        return f"interface {self.name or self.ifindex}"

    def encode(self) -> bytes:
        flags = change = 0
        if self.up is not None:
            flags, change = flags | (UP if self.up else 0), change | UP
        if self.arp is not None:
            flags, change = flags | (0 if self.arp else NOARP), change | NOARP
        parts = [LINK_HEADER.pack(0, 0, self.ifindex, flags, change)]
        if not self.ifindex:
            parts.append(attribute(_NAME, self.name))
        parts += [_mtu(self.mtu), _mac(self.mac)]
        if not self.link_local:
            mode = attribute(_ADDR_GEN_MODE, bytes([_GEN_MODE_NONE]))
            parts.append(nested(_AF_SPEC, nested(_AF_INET6, mode)))
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class LinkName:
    """A device by its name: to look it up or to delete it."""

    name: str

    def __str__(self) -> str:
        return f"interface {self.name}"

    def encode(self) -> bytes:
        return LINK_HEADER.pack(0, 0, 0, 0, 0) + attribute(_NAME, self.name) + attribute(EXT_MASK, SKIP_STATISTICS)
