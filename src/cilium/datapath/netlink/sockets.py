"""Sockets of a network namespace, found and destroyed by the kernel's socket diagnostics (sock_diag(7)).

In: which sockets (cookie and peer). Out: the cookies of those that were destroyed: the process that has one gets
ECONNABORTED from its next or pending call, and the other end, of TCP, a reset. Needs CONFIG_INET_DIAG_DESTROY.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Set
from contextlib import closing
from typing import NamedTuple, Protocol

from cilium.datapath.addresses import MAPPED
from cilium.datapath.errors import DatapathError
from cilium.datapath.netlink.netns import open_netns, run_in_netns
from cilium.datapath.netlink.wire import Flag, Type, decode, encode, error_of

# linux/sock_diag.h, linux/inet_diag.h
_SOCK_DIAG, _BY_FAMILY, _DESTROY = 4, 20, 21
_REQUEST = struct.Struct("=BBBBI")  # family, protocol, extensions, padding, states; then the socket's id
_ID = struct.Struct("!HH16s16s4x8s")  # ports, addresses, interface, cookie
_ANY_COOKIE = b"\xff" * 8
_ID_OFFSET = 4  # of a reply: family, state, timer, retransmissions
_RECEIVE = 1 << 18
# By include/net/tcp_states.h: neither listening nor closed, and still the process's.
_STATES = {
    socket.IPPROTO_TCP: sum(1 << state for state in (1, 2, 4, 5, 8, 9, 11)),
    socket.IPPROTO_UDP: 1 << 1,
}
_FAMILIES = {4: (socket.AF_INET, socket.AF_INET6), 6: (socket.AF_INET6,)}
"""Families of sockets that may talk to an address of a version: IPv6 sockets do to mapped ones."""


class SocketsError(DatapathError):
    """The kernel refused. `errno` is its own: EOPNOTSUPP where it cannot destroy sockets at all."""

    def __init__(self, action: str, number: int) -> None:
        self.errno = number
        remedy = ": it needs CONFIG_INET_DIAG_DESTROY" if number == errno.EOPNOTSUPP else ""
        super().__init__(f"{action}: {os.strerror(number)}{remedy}")


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
    """struct inet_diag_sockid."""


class DestroySockets(Protocol):
    """`destroy_sockets`."""

    def __call__(self, netns: str, wanted: Set[tuple[int, Peer]], /) -> set[int]: ...


def destroy_sockets(netns: str, wanted: Set[tuple[int, Peer]]) -> set[int]:
    """Destroy the sockets with these cookies that are connected to these peers; the cookies of those destroyed.

    `netns`: its path; empty: this process's own. Raises SocketsError, NamespaceError.
    """
    destroyed = set()
    with closing(_channel(netns)) as channel:
        searches = {(family, peer.protocol, peer.port) for _, peer in wanted for family in _families(peer)}
        for family, protocol, port in sorted(searches):
            for found in list(_connected(channel, family, protocol, port)):
                if (found.cookie, found.peer) in wanted and _destroy(channel, found):
                    destroyed.add(found.cookie)
    return destroyed


def _channel(netns: str) -> socket.socket:
    if not netns:
        return _open()
    fd = open_netns(netns)
    try:
        return run_in_netns(fd, _open)
    finally:
        os.close(fd)


def _open() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG)


def _families(peer: Peer) -> tuple[int, ...]:
    return _FAMILIES[4 if peer.address.startswith(MAPPED) else 6]


def _connected(channel: socket.socket, family: int, protocol: int, port: int) -> Iterator[Found]:
    """Sockets connected to that port of anybody."""
    wanted = _REQUEST.pack(family, protocol, 0, 0, _STATES[protocol]) + _ID.pack(0, port, b"", b"", _ANY_COOKIE)
    channel.send(encode(_BY_FAMILY, Flag.REQUEST | Flag.DUMP, 1, wanted))
    while True:
        for message in decode(channel.recv(_RECEIVE)):
            if message.type == Type.DONE:
                return
            if message.type == Type.ERROR:
                raise SocketsError("list sockets", error_of(message)[0])
            yield _found(message.body, protocol)


def _found(body: bytes, protocol: int) -> Found:
    family, identity = body[0], body[_ID_OFFSET : _ID_OFFSET + _ID.size]
    _, port, _, address, cookie = _ID.unpack(identity)
    if family == socket.AF_INET:
        address = MAPPED + address[:4]
    return Found(family, int.from_bytes(cookie, "little"), Peer(protocol, address, port), identity)


def _destroy(channel: socket.socket, found: Found) -> bool:
    """False: it went by itself meanwhile. The cookie in the id makes sure that it is no other one."""
    request = _REQUEST.pack(found.family, found.peer.protocol, 0, 0, 0) + found.id
    channel.send(encode(_DESTROY, Flag.REQUEST | Flag.ACK, 1, request))
    number, _ = error_of(next(decode(channel.recv(_RECEIVE))))
    if number and number != errno.ENOENT:
        raise SocketsError("destroy a socket", number)
    return not number
