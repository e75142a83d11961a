"""What a device can do with XDP, as the kernel's `netdev` family says it (generic netlink; Linux 6.3).

In: an interface index. Out: its features, None where the kernel does not say.
Source: include/uapi/linux/netdev.h, include/uapi/linux/genetlink.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from enum import IntFlag

from cilium.datapath.netlink.port import NetlinkError
from cilium.datapath.netlink.wire import Flag, Message, Type, attribute, attributes, decode, encode, error_of, u32

_HEADER = struct.Struct("=BBxx")  # struct genlmsghdr: command, version
_GENERIC = 16  # NETLINK_GENERIC
_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
_GET_DEVICE, _IFINDEX, _XDP_FEATURES = 1, 1, 3
_UNKNOWN = (errno.ENOENT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT)
_RECEIVE = 1 << 16


class XdpFeatures(IntFlag):
    """enum netdev_xdp_act: those that matter here."""

    BASIC = 1
    """Programs run in the driver."""
    REDIRECT = 2
    NDO_XMIT = 4
    """Other programs may redirect frames to it."""


def xdp_features(ifindex: int) -> XdpFeatures | None:
    """Of a device of the caller's network namespace. Raises NetlinkError (ENODEV: there is none)."""
    try:
        channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _GENERIC)
    except OSError as error:
        if error.errno in _UNKNOWN:
            return None
        raise NetlinkError("open generic netlink", error.errno or 0) from error
    with channel:
        found = _ask(channel, _CONTROL, _GET_FAMILY, attribute(_FAMILY_NAME, "netdev"))
        family = u32(found.get(_FAMILY_ID)) if found is not None else 0
        if not family:
            return None
        device = _ask(channel, family, _GET_DEVICE, attribute(_IFINDEX, ifindex))
        return XdpFeatures(u32(device.get(_XDP_FEATURES))) if device is not None else None


def _ask(channel: socket.socket, family: int, command: int, body: bytes) -> dict[int, bytes] | None:
    """The attributes of the answer; None: the kernel does not know what was asked."""
    channel.send(encode(family, Flag.REQUEST, 1, _HEADER.pack(command, 1) + body))
    reply: Message = next(decode(channel.recv(_RECEIVE)))
    if reply.type != Type.ERROR:
        return attributes(reply.body, _HEADER.size)
    number, words = error_of(reply)
    if number in _UNKNOWN:
        return None
    raise NetlinkError("ask for features of XDP", number, words)
