"""The L4 half of rules: ports, protocols, ICMP types.

In: `toPorts[].ports[]`, `icmps[].fields[]`, `ports[]` of a NetworkPolicy. Out: `PortRange`s.
"""

from __future__ import annotations

import re

from cilium.sources.kubernetes.policies.errors import PolicyError
from cilium.sources.kubernetes.policies.wire import DestinationPort, ICMPField, NetworkPolicyPort, PortProtocol
from cilium.tables.rules import PortRange

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
_WITH_PORTS = frozenset({0, TCP, UDP, SCTP})
_PROTOCOLS = {"": 0, "ANY": 0, "TCP": TCP, "UDP": UDP, "SCTP": SCTP, "ICMP": ICMP, "ICMPV6": ICMPV6}
_EXTENDED = {"VRRP": 112, "IGMP": 2, "GRE": 47, "IPIP": 4, "IPV6": 41, "ESP": 50, "AH": 51}
_DIGITS = 6
"""More of them are no port, also not an octal one."""
_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9](-?[a-z0-9])*")  # RFC 6335 section 5.1

ICMP_TYPES = {
    ICMP: {
        "EchoReply": 0,
        "DestinationUnreachable": 3,
        "Redirect": 5,
        "Echo": 8,
        "EchoRequest": 8,
        "RouterAdvertisement": 9,
        "RouterSelection": 10,
        "TimeExceeded": 11,
        "ParameterProblem": 12,
        "Timestamp": 13,
        "TimestampReply": 14,
        "Photuris": 40,
        "ExtendedEchoRequest": 42,
        "ExtendedEchoReply": 43,
        "ExtendedEcho Request": 42,  # upstream's API has these two with a blank as well
        "ExtendedEcho Reply": 43,
    },
    ICMPV6: {
        "DestinationUnreachable": 1,
        "PacketTooBig": 2,
        "TimeExceeded": 3,
        "ParameterProblem": 4,
        "EchoRequest": 128,
        "EchoReply": 129,
        "MulticastListenerQuery": 130,
        "MulticastListenerReport": 131,
        "MulticastListenerDone": 132,
        "RouterSolicitation": 133,
        "RouterAdvertisement": 134,
        "NeighborSolicitation": 135,
        "NeighborAdvertisement": 136,
        "RedirectMessage": 137,
        "RouterRenumbering": 138,
        "ICMPNodeInformationQuery": 139,
        "ICMPNodeInformationResponse": 140,
        "InverseNeighborDiscoverySolicitation": 141,
        "InverseNeighborDiscoveryAdvertisement": 142,
        "HomeAgentAddressDiscoveryRequest": 144,
        "HomeAgentAddressDiscoveryReply": 145,
        "MobilePrefixSolicitation": 146,
        "MobilePrefixAdvertisement": 147,
        "DuplicateAddressRequest": 157,
        "DuplicateAddressConfirmation": 158,
        "DuplicateAddressRequestCodeSuffix": 157,
        "DuplicateAddressConfirmationCodeSuffix": 158,
        "ExtendedEchoRequest": 160,
        "ExtendedEchoReply": 161,
    },
}
"""IANA's ICMP types; names as CamelCase."""


def port_protocol(entry: PortProtocol, path: str, *, extended: bool = False) -> PortRange:
    """One entry of a Cilium policy's `ports`. Raises PolicyError.

    `extended`: IP protocols without ports may be named.
    """
    protocol = _protocol(entry.protocol or "", f"{path}.protocol", extended=extended)
    text = entry.port or ""
    end = entry.endPort or 0
    if protocol not in _WITH_PORTS:
        if text not in {"", "0"} or end:
            hint = ": name its types under icmps" if protocol in {ICMP, ICMPV6} else ": leave it out, or write '0'"
            raise PolicyError(f"{path}.port", f"{entry.protocol} has no ports{hint}")
        return PortRange(protocol)
    if not text:
        raise PolicyError(f"{path}.port", "is missing: a number, a name, or '0' for every port")
    first = number(text)
    if first is None:
        return PortRange(protocol, name=_name(text, end, path))
    return _range(protocol, first, end, path)


def network_policy_port(entry: NetworkPolicyPort, path: str) -> PortRange:
    """One entry of a NetworkPolicy's `ports`; the protocol's default is TCP. Raises PolicyError."""
    protocol = _protocol(entry.protocol or "TCP", f"{path}.protocol")
    if protocol not in {TCP, UDP, SCTP}:
        raise PolicyError(f"{path}.protocol", f"{entry.protocol!r} is not one of TCP, UDP, SCTP")
    end = entry.endPort or 0
    if entry.port is None:
        if end:
            raise PolicyError(f"{path}.endPort", "needs port as the first of the range")
        return PortRange(protocol)
    if isinstance(entry.port, str):
        return PortRange(protocol, name=_name(entry.port, end, path))
    if not 1 <= entry.port <= 65535:
        raise PolicyError(f"{path}.port", f"{entry.port} is not between 1 and 65535")
    return _range(protocol, entry.port, end, path)


def destination_port(protocol: int, entry: DestinationPort | None, path: str) -> PortRange:
    """The `destinationPort` of a ClusterNetworkPolicy. Raises PolicyError."""
    if entry is None:
        raise PolicyError(path, "is missing: number or range")
    if (entry.number is None) == (entry.range is None):
        raise PolicyError(path, "needs either number or range")
    if entry.range is None:
        first = last = entry.number or 0
        where = f"{path}.number"
    else:
        first, last, where = entry.range.start, entry.range.end, f"{path}.range"
        if first >= last:
            raise PolicyError(where, f"start {first} is not below end {last}")
    if not 1 <= first <= last <= 65535:
        raise PolicyError(where, "is not between 1 and 65535")
    return PortRange(protocol, first, last)


def named_port(text: str, path: str) -> PortRange:
    """A container port by its name, whatever its protocol. Raises PolicyError."""
    name = text.lower()
    if not _NAME.fullmatch(name):
        raise PolicyError(path, f"{text!r} is not a port name: at most 15 letters, digits and single '-'")
    return PortRange(0, name=name)


def icmp_field(field: ICMPField, path: str) -> PortRange:
    """One ICMP type, all codes. Raises PolicyError."""
    families = {"IPv4": ICMP, "IPv6": ICMPV6}
    family = field.family or "IPv4"
    if family not in families:
        raise PolicyError(f"{path}.family", f"{family!r} is not IPv4 or IPv6")
    protocol = families[family]
    kind = ICMP_TYPES[protocol].get(field.type) if isinstance(field.type, str) else field.type
    if kind is None and isinstance(field.type, str):
        kind = number(field.type)
    if kind is None or not 0 <= kind <= 255:
        raise PolicyError(f"{path}.type", f"{field.type!r} is not an ICMP type of {family}: 0 to 255, or EchoRequest …")
    return PortRange(protocol, kind, kind)


def number(text: str) -> int | None:
    """The port a text means, None for a name. A leading 0 makes it octal, as in Go's and C's literals."""
    if not text.isascii() or not text.isdigit():
        return None
    if len(text.lstrip("0")) > _DIGITS:
        return 65536
    if len(text) > 1 and text[0] == "0":
        return int(text, 8) if set(text) <= set("01234567") else 65536
    return int(text)


def _protocol(text: str, path: str, *, extended: bool = False) -> int:
    upper = text.upper()
    if upper in _EXTENDED:
        if not extended:
            raise PolicyError(path, f"{text!r} needs the setting enable-extended-ip-protocols")
        return _EXTENDED[upper]
    if upper not in _PROTOCOLS:
        raise PolicyError(path, f"{text!r} is not one of TCP, UDP, SCTP, ICMP, ICMPv6, ANY")
    return _PROTOCOLS[upper]


def _name(text: str, end: int, path: str) -> str:
    name = text.lower()
    if not _NAME.fullmatch(name):
        raise PolicyError(
            f"{path}.port", f"{text!r} is neither a number nor a port name: at most 15 letters, digits and single '-'"
        )
    if end:
        raise PolicyError(f"{path}.endPort", "cannot follow a named port")
    return name


def _range(protocol: int, first: int, end: int, path: str) -> PortRange:
    if not 0 <= first <= 65535:
        raise PolicyError(f"{path}.port", f"{first} is not between 0 and 65535")
    if not 0 <= end <= 65535:
        raise PolicyError(f"{path}.endPort", f"{end} is not between 0 and 65535")
    if end and not first:
        raise PolicyError(f"{path}.endPort", "cannot follow port 0, which already means every port")
    if end and end < first:
        raise PolicyError(f"{path}.endPort", f"{end} is below port {first}")
    return PortRange(protocol, first, end or first) if first else PortRange(protocol)
