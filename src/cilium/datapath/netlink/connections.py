"""Connected sockets of a network namespace, destroyed: as if the network had ended the connection.

In: which sockets (cookie and peer). Out: the cookies of those that were destroyed. The process that has one gets
ECONNABORTED from its pending or next call, and the other end, of TCP, a reset. Needs CONFIG_INET_DIAG_DESTROY.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Set
from contextlib import closing
from typing import NamedTuple, Protocol

from cilium.datapath.addresses import MAPPED
from cilium.datapath.netlink import sockdiag
from cilium.datapath.netlink.port import NetlinkError

# By include/net/tcp_states.h: neither listening nor closed, and still the process's.
_STATES = {
    socket.IPPROTO_TCP: sum(1 << state for state in (1, 2, 4, 5, 8, 9, 11)),
    socket.IPPROTO_UDP: 1 << 1,
}


class Peer(NamedTuple):
    """Whom a socket is connected to."""

    protocol: int
    """IPPROTO_TCP or IPPROTO_UDP."""
    address: bytes
    """16 bytes, IPv4 mapped."""
    port: int


class Found(NamedTuple):
    family: int
    cookie: int
    peer: Peer
    id: bytes


class DestroySockets(Protocol):
    """`destroy_sockets`."""

    def __call__(self, netns: str, wanted: Set[tuple[int, Peer]], /) -> set[int]: ...


def destroy_sockets(netns: str, wanted: Set[tuple[int, Peer]]) -> set[int]:
    """Destroy the sockets with these cookies that are connected to these peers; the cookies of those destroyed.

    `netns`: its path; empty: this process's own. Raises NetlinkError, with EOPNOTSUPP where the kernel cannot destroy
    sockets at all, and NamespaceError.
    """
    destroyed = set()
    with closing(sockdiag.channel(netns)) as to:
        for family, protocol, port in sorted({search for _, peer in wanted for search in _searches(peer)}):
            for found in list(_connected(to, family, protocol, port)):
                if (found.cookie, found.peer) in wanted and _destroy(to, found):
                    destroyed.add(found.cookie)
    return destroyed


def _searches(peer: Peer) -> list[tuple[int, int, int]]:
    """(family, protocol, port): sockets of IPv6 may talk to an address of IPv4, too."""
    families = [socket.AF_INET6, *([socket.AF_INET] if peer.address.startswith(MAPPED) else ())]
    return [(family, peer.protocol, peer.port) for family in families]


def _connected(to: socket.socket, family: int, protocol: int, port: int) -> Iterator[Found]:
    """Sockets connected to that port of anybody."""
    identity = sockdiag.ID.pack(0, port, b"", b"", b"", b"\xff" * 8)
    for body in sockdiag.dump(to, family, protocol, _STATES[protocol], identity=identity):
        own = body[sockdiag.ID_OFFSET : sockdiag.ID_OFFSET + sockdiag.ID.size]
        _, peer_port, _, address, _, cookie = sockdiag.ID.unpack(own)
        if body[0] == socket.AF_INET:
            address = MAPPED + address[:4]
        yield Found(family, int.from_bytes(cookie, "little"), Peer(protocol, address, peer_port), own)


def _destroy(to: socket.socket, found: Found) -> bool:
    """False: it went by itself meanwhile."""
    number = sockdiag.destroy(to, found.family, found.peer.protocol, found.id)
    if number and number != errno.ENOENT:
        remedy = "; the kernel needs CONFIG_INET_DIAG_DESTROY" if number == errno.EOPNOTSUPP else ""
        raise NetlinkError(f"destroy a socket{remedy}", number)
    return not number
