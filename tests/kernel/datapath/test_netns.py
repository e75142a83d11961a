"""Namespaces without a name: made, entered, and gone with their last descriptor."""

from __future__ import annotations

import asyncio
import os
import socket
from ipaddress import ip_address

import pytest

from cilium.datapath.netlink.links import LinkChange
from cilium.datapath.netlink.netns import NamespaceError, call_in_netns, is_netns, new_netns, run_in_netns
from cilium.datapath.netlink.port import Netlink
from cilium.features.health.prober import HttpAsk
from cilium.features.health.responder import Responder, listen

pytestmark = pytest.mark.kernel


def inode(path: str = "/proc/thread-self/ns/net") -> int:
    return os.stat(path).st_ino


def test_a_new_namespace_is_another_and_this_thread_stays() -> None:
    here = inode()
    fd = new_netns()
    try:
        assert is_netns(fd)
        assert run_in_netns(fd, inode) == os.fstat(fd).st_ino != here
        assert inode() == here
        assert [link.name for link in Netlink(fd).links() if link.name == "lo"] == ["lo"]
    finally:
        os.close(fd)


def test_what_is_no_namespace_cannot_be_entered() -> None:
    with open("/dev/null") as nothing, pytest.raises(NamespaceError, match="Invalid argument"):
        run_in_netns(nothing.fileno(), inode)


async def test_sockets_opened_inside_answer_there_and_not_here() -> None:
    """As the agent does: its loop serves what a socket in another namespace hears, and keeps that namespace alive."""
    fd = new_netns()
    responder = Responder()
    try:
        run_in_netns(fd, lambda: Netlink().put(LinkChange(name="lo", up=True)))
        inside = await call_in_netns(fd, lambda: [listen("127.0.0.1", 0, version=4), listen("::1", 0, version=6)])
        ports = [made.getsockname()[1] for made in inside]
        await responder.serve(inside)
        loop = asyncio.get_running_loop()
        for address, port in zip(("127.0.0.1", "::1"), ports, strict=True):
            ask = HttpAsk(port=port, patience=5.0)
            with pytest.raises(OSError, match=r"Connect call failed|refused"):
                await ask(ip_address(address))
            future = loop.run_in_executor(None, lambda a=address, p=port: run_in_netns(fd, lambda: _get(a, p)))
            assert (await future).startswith(b"HTTP/1.1 200 OK")
    finally:
        responder.close()
        os.close(fd)


def test_an_address_that_is_not_there_yet_can_be_listened_on() -> None:
    """IPv6 refuses addresses for a second or more after they were added."""
    for address, version in (("192.0.2.1", 4), ("2001:db8::1", 6)):
        listen(address, 0, version=version).close()


def _get(address: str, port: int) -> bytes:
    with socket.create_connection((address, port), timeout=5) as connection:
        connection.sendall(b"GET /hello HTTP/1.1\r\n\r\n")
        return connection.recv(4096)
