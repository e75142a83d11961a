"""Who listens on this node: sockets of the caller's network namespace.

In: a range of ports. Out: TCP sockets that listen and UDP sockets that wait for anybody, and the processes that hold
them. The kernel chooses among all sockets of the node: what is not asked for is not copied.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cilium.datapath.netlink import sockdiag
from cilium.tables.types import IPAddress

_REPLY = struct.Struct("=BBBB2s2s16s16sI8sIIIII")  # struct inet_diag_msg
_PORT_FROM, _PORT_TO = 2, 3  # INET_DIAG_BC_S_GE, _S_LE
_OPERATION = struct.Struct("=BBH")  # struct inet_diag_bc_op
_LISTEN, _UNCONNECTED = 1 << 10, 1 << 7  # states: TCP_LISTEN; TCP_CLOSE, which UDP sockets are in that wait for anybody
_KINDS = (("TCP", socket.IPPROTO_TCP, _LISTEN), ("UDP", socket.IPPROTO_UDP, _UNCONNECTED))


@dataclass(frozen=True, slots=True)
class BoundSocket:
    address: IPAddress
    port: int
    protocol: str
    uid: int
    inode: int


def bound_sockets(first: int, last: int) -> list[BoundSocket]:
    """Those with a port from `first` to `last`, of both families. Raises NetlinkError."""
    with closing(sockdiag.channel()) as to:
        return [
            _socket(name, body)
            for name, protocol, states in _KINDS
            for family in (socket.AF_INET, socket.AF_INET6)
            for body in sockdiag.dump(to, family, protocol, states, bytecode=_between(first, last))
        ]


def holders(inodes: Collection[int]) -> dict[int, str]:
    """Processes by the socket that they hold, as people call them; of a socket that several hold, one. Those of other
    PID namespaces are not seen.
    """
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, str] = {}
    for process in Path("/proc").iterdir() if wanted else ():
        if not process.name.isdecimal():
            continue
        try:
            for entry in os.scandir(process / "fd"):
                inode = wanted.get(os.readlink(entry.path))
                if inode is not None and inode not in found:
                    found[inode] = f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue  # it has gone, or is not ours to look into
    return found


def _between(first: int, last: int) -> bytes:
    """A filter; each comparison jumps behind itself, or beyond the end, which refuses."""
    return b"".join(
        (
            _OPERATION.pack(_PORT_FROM, 8, 20), _OPERATION.pack(0, 0, first),
            _OPERATION.pack(_PORT_TO, 8, 12), _OPERATION.pack(0, 0, last),
        )
    )  # fmt: skip


def _socket(name: str, body: bytes) -> BoundSocket:
    family, _state, _timer, _retrans, port, _peer_port, address, *_rest, uid, inode = _REPLY.unpack_from(body)
    raw = address[:4] if family == socket.AF_INET else address
    return BoundSocket(ip_address(raw), int.from_bytes(port, "big"), name, uid, inode)
