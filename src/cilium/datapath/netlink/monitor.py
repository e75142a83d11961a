"""What rtnetlink announces: changes of devices, addresses and routes of one network namespace, as they happen.

In: a namespace. Out: batches of messages; `None` when the kernel had to drop some, so that the reader starts over.
"""

from __future__ import annotations

import asyncio
import errno
import socket

from cilium.datapath.closing import Closing
from cilium.datapath.netlink.netns import run_in_netns
from cilium.datapath.netlink.wire import Message, decode

# RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE (include/uapi/linux/rtnetlink.h)
GROUPS = (1, 5, 7, 9, 11)
_RECEIVE = 1 << 18
_ROOM = 1 << 20


class NetlinkMonitor(Closing):
    """Subscribed from its construction on: what changes after that is heard, so list what exists after it."""

    def __init__(self, netns: int = -1) -> None:
        """`netns`: a descriptor, -1 for the caller's namespace. Raises OSError, NamespaceError."""
        self._socket = _subscribe() if netns < 0 else run_in_netns(netns, _subscribe)

    async def receive(self) -> list[Message] | None:
        """The next messages; None: some were lost. Raises OSError."""
        try:
            return list(decode(await asyncio.get_running_loop().sock_recv(self._socket, _RECEIVE)))
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return None
            raise

    def close(self) -> None:
        self._socket.close()


def _subscribe() -> socket.socket:
    mask = sum(1 << (group - 1) for group in GROUPS)
    flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    channel = socket.socket(socket.AF_NETLINK, flags, socket.NETLINK_ROUTE)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)
    channel.bind((0, mask))
    return channel
