"""IP addresses and CIDRs. Source: Kubernetes documentation "Common Expression Language"."""

import ipaddress
from collections.abc import Callable
from typing import Any

from kubelab.apiserver.cel.functions import BOOL, INT, OPAQUE, STRING, function, method

Opaque = dict[str, Any]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def _parsed(text: str) -> Address:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f'IP Address "{text}" parse error during conversion from string') from None
    if "%" in text or getattr(found, "ipv4_mapped", None) is not None:
        raise ValueError(f'IP Address "{text}": zones and IPv4-mapped IPv6 addresses are not allowed')
    return found


def _interface(text: str) -> Interface:
    try:
        if "/" not in text:
            raise ValueError("no prefix length")
        return ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(f'network address parse error during conversion from string: "{text}"') from None


def _holds(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return check


def _ip(text: str) -> Opaque:
    return {"ip": str(_parsed(text))}


def _cidr(text: str) -> Opaque:
    return {"cidr": _interface(text).with_prefixlen}


def _address(value: Opaque) -> Address:
    return ipaddress.ip_address(value["ip"])


def _network(value: Opaque) -> Network:
    return ipaddress.ip_interface(value["cidr"]).network


def _contains_ip(network: Opaque, address: Opaque | str) -> bool:
    found = _parsed(address) if isinstance(address, str) else _address(address)
    return found in _network(network)


def _contains_cidr(network: Opaque, other: Opaque | str) -> bool:
    outer, inner = _network(network), _interface(other).network if isinstance(other, str) else _network(other)
    return outer.version == inner.version and inner.network_address in outer and inner.prefixlen >= outer.prefixlen


def _global(value: Opaque) -> bool:
    """As Go means it: private addresses are global unicast too."""
    found = _address(value)
    return (
        not (found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local)
        and str(found) != "255.255.255.255"
    )


FUNCTIONS = (
    function("ip", ((STRING,), OPAQUE, _ip)),
    function("isIP", ((STRING,), BOOL, _holds(_parsed))),
    function("ip.isCanonical", ((STRING,), BOOL, lambda text: str(_parsed(text)) == text)),
    method("family", ((OPAQUE,), INT, lambda value: _address(value).version)),
    method("isUnspecified", ((OPAQUE,), BOOL, lambda value: _address(value).is_unspecified)),
    method("isLoopback", ((OPAQUE,), BOOL, lambda value: _address(value).is_loopback)),
    method("isLinkLocalMulticast", ((OPAQUE,), BOOL, lambda value: _local_multicast(_address(value)))),
    method("isLinkLocalUnicast", ((OPAQUE,), BOOL, lambda value: _address(value).is_link_local)),
    method("isGlobalUnicast", ((OPAQUE,), BOOL, _global)),
    function("cidr", ((STRING,), OPAQUE, _cidr)),
    function("isCIDR", ((STRING,), BOOL, _holds(_interface))),
    method("containsIP", ((OPAQUE, OPAQUE), BOOL, _contains_ip), ((OPAQUE, STRING), BOOL, _contains_ip)),
    method("containsCIDR", ((OPAQUE, OPAQUE), BOOL, _contains_cidr), ((OPAQUE, STRING), BOOL, _contains_cidr)),
    method("ip", ((OPAQUE,), OPAQUE, lambda value: {"ip": str(ipaddress.ip_interface(value["cidr"]).ip)})),
    method("masked", ((OPAQUE,), OPAQUE, lambda value: {"cidr": str(_network(value))})),
    method("prefixLength", ((OPAQUE,), INT, lambda value: _network(value).prefixlen)),
)


def _local_multicast(found: Address) -> bool:
    local = "224.0.0.0/24" if found.version == 4 else "ff02::/16"
    return found in ipaddress.ip_network(local)
