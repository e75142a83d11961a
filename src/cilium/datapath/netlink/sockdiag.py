"""The exchange of socket diagnostics (linux/sock_diag.h, linux/inet_diag.h), below those who ask for sockets.

In: a network namespace, and what to look for. Out: the kernel's answers as bytes: struct inet_diag_msg, which begins
with the family and has the socket's id from `ID_OFFSET` on.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

from cilium.datapath.netlink.netns import open_netns, run_in_netns
from cilium.datapath.netlink.port import NetlinkError
from cilium.datapath.netlink.wire import Flag, Type, attribute, decode, encode, error_of

_NETLINK_SOCK_DIAG, _BY_FAMILY, _DESTROY = 4, 20, 21
_REQUEST = struct.Struct("=BBBxI")  # struct inet_diag_req_v2: family, protocol, extensions, states; then the id
_BYTECODE = 1  # INET_DIAG_REQ_BYTECODE
_RECEIVE = 1 << 18
ID = struct.Struct("!HH16s16s4s8s")
"""struct inet_diag_sockid: ports, addresses, interface, cookie."""
ID_OFFSET = 4
ANY = ID.pack(0, 0, b"", b"", b"", b"\xff" * 8)


def channel(netns: str = "") -> socket.socket:
    """To the kernel, about the sockets of a namespace: its path, or the caller's own. Raises NamespaceError."""
    if not netns:
        return _open()
    fd = open_netns(netns)
    try:
        return run_in_netns(fd, _open)
    finally:
        os.close(fd)


def dump(
    to: socket.socket, family: int, protocol: int, states: int, *, identity: bytes = ANY, bytecode: bytes = b""
) -> Iterator[bytes]:
    """Sockets in one of these states whose ports are those of `identity`, where it has any. Read it to the end.

    Raises NetlinkError.
    """
    body = _REQUEST.pack(family, protocol, 0, states) + identity + (attribute(_BYTECODE, bytecode) if bytecode else b"")
    to.send(encode(_BY_FAMILY, Flag.REQUEST | Flag.DUMP, 1, body))
    while True:
        for message in decode(to.recv(_RECEIVE)):
            if message.type == Type.DONE:
                return
            if message.type == Type.ERROR:
                raise NetlinkError("list sockets", *error_of(message))
            yield message.body


def destroy(to: socket.socket, family: int, protocol: int, identity: bytes) -> int:
    """The kernel's errno. The cookie in the id makes sure that it is no other socket."""
    body = _REQUEST.pack(family, protocol, 0, 0) + identity
    to.send(encode(_DESTROY, Flag.REQUEST | Flag.ACK, 1, body))
    return error_of(next(decode(to.recv(_RECEIVE))))[0]


def _open() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
