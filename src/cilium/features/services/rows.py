"""Tables that services own beside `frontends`."""

from __future__ import annotations

import msgspec


class SocketHook(msgspec.Struct, frozen=True):
    """Desired table `socket-hooks`, key `name`: a program on the node's root cgroup."""

    name: str
    """connect4, connect6, …"""
    attach_type: int
    """enum bpf_attach_type, include/uapi/linux/bpf.h."""

    @property
    def program(self) -> str:
        return f"sock_{self.name}"


TRANSLATION = (
    SocketHook("connect4", 10),
    SocketHook("connect6", 11),
    SocketHook("sendmsg4", 14),
    SocketHook("sendmsg6", 15),
    SocketHook("recvmsg4", 19),
    SocketHook("recvmsg6", 20),
    SocketHook("getpeername4", 29),
    SocketHook("getpeername6", 30),
    SocketHook("release", 34),
)
BIND_PROTECTION = (
    SocketHook("post_bind4", 12),
    SocketHook("post_bind6", 13),
)
HOOKS = TRANSLATION + BIND_PROTECTION
"""All that there may be."""
