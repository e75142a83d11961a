"""Translations in sockets as flows, still as columns: what the process asked for, and what it got instead.

Owns: `expand`, which makes a record like any other of each flow. The datapath's record names neither pod nor identity:
it has no time for that.
Comes in: records of type TRACE_SOCK, and who knows the ends. Goes out: records with addresses, endpoints and identities
filled in, in which `translated` is the service's address, whichever end that is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cilium.datapath.generated import FlowVerdict, SockPoint
from cilium.hubble.addresses import Mask, is_ipv4_column, packed
from cilium.hubble.records import SOCK_EVENT, Records

TRACED = 6
"""flow.Verdict of what was there before the translation; the datapath has no use for it."""
NOWHERE = bytes(16)
ANY_IPV4 = packed(IPv4Address(0))

Column = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose sockets are in a network namespace. Addresses are 16 bytes; NOWHERE: none, or which one is not known."""

    endpoint: int = 0
    identity: int = 0
    ipv4: bytes = NOWHERE
    ipv6: bytes = NOWHERE


class Ends(Protocol):
    """Who is at the ends; `cilium.hubble.names.Names` knows."""

    def owner(self, netns_cookie: int) -> Owner: ...

    def peer_identity(self, address: bytes) -> int:
        """That of the world if nobody is known there."""


class Nobody:
    """Knows neither."""

    def owner(self, netns_cookie: int) -> Owner:
        return Owner()

    def peer_identity(self, address: bytes) -> int:
        return 0


def expand(records: Records, after: Mask, ends: Ends) -> Records:
    """`records` has a socket's record for each flow; `after` says which of the flows show the translated address."""
    sockets = records.view(SOCK_EVENT)
    reverse = sockets["point"] == SockPoint.REVERSE
    remote = np.where(after, sockets["translated"], sockets["destination"])
    remote_port = np.where(after, sockets["translated_port"], sockets["destination_port"])
    remote_identity = _of_each(remote, np.uint32, ends.peer_identity)
    endpoint, identity, ipv4, ipv6 = _owners(sockets["netns_cookie"], ends)
    unbound = (sockets["source"] == np.void(NOWHERE)) | (sockets["source"] == np.void(ANY_IPV4))
    local = np.where(unbound, np.where(is_ipv4_column(remote), ipv4, ipv6), sockets["source"])

    flows = records.copy()
    flows["point"] += after
    flows["verdict"] = np.where(after, FlowVerdict.TRANSLATED, TRACED)
    for name, mine, theirs in (
        ("", local, remote),
        ("_port", sockets["source_port"], remote_port),
        ("_endpoint", endpoint, 0),
        ("_identity", identity, remote_identity),
    ):
        flows["source" + name] = np.where(reverse, theirs, mine)
        flows["destination" + name] = np.where(reverse, mine, theirs)
    for name in ("translated", "translated_port"):
        flows[name] = np.where(reverse, sockets[name], sockets[name.replace("translated", "destination")])
    return flows


def service_is(side: str, flows: Records) -> Mask:
    """Where the service is at that end (source or destination): `translated` is its address."""
    reverse = flows["point"] >= SockPoint.REVERSE
    mask: Mask = reverse if side == "source" else ~reverse
    return mask


def _owners(cookies: Column, ends: Ends) -> tuple[Column, Column, Column, Column]:
    """Endpoint, identity and the addresses of both families, per socket."""
    different, place = np.unique(cookies, return_inverse=True)
    found = [ends.owner(cookie) for cookie in different.tolist()]
    return (
        np.array([owner.endpoint for owner in found], np.uint16)[place],
        np.array([owner.identity for owner in found], np.uint32)[place],
        np.frombuffer(b"".join(owner.ipv4 for owner in found), "V16")[place],
        np.frombuffer(b"".join(owner.ipv6 for owner in found), "V16")[place],
    )


def _of_each(column: Column, dtype: Any, derive: Callable[[bytes], int]) -> Column:
    """Something about every address of the column, asked once per address."""
    different, place = np.unique(column, return_inverse=True)
    return np.array([derive(address) for address in different.tolist()], dtype)[place]
