"""What decoders of several kinds share: the metadata they read and how addresses are parsed."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

import msgspec

from cilium.sources.kubernetes.errors import ObjectError
from cilium.tables.types import IPAddress, IPNetwork

Raw = bytes | msgspec.Raw


class Owner(msgspec.Struct, frozen=True):
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[Owner] | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


def addresses(texts: Iterable[str | None], field: str) -> tuple[IPAddress, ...]:
    """Without the empty ones. Raises ObjectError naming `field`."""
    try:
        return tuple(_address(text) for text in texts if text)
    except ValueError as error:
        raise ObjectError(field, str(error)) from error


def _address(text: str) -> IPAddress:
    """To Kubernetes, and in the maps of the kernel, an IPv4 address that is written as one of IPv6 is the same."""
    address = ip_address(text)
    return address if address.version == 4 else address.ipv4_mapped or address


def networks(texts: Iterable[str | None], field: str) -> tuple[IPNetwork, ...]:
    """Without the empty ones; host bits are no error, as in Kubernetes. Raises ObjectError naming `field`."""
    try:
        return tuple(ip_network(text, strict=False) for text in texts if text)
    except ValueError as error:
        raise ObjectError(field, str(error)) from error
