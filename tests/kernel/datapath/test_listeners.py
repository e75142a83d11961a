"""Which sockets of a namespace are bound to a port, and who holds them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from kernel.datapath.namespaces import Namespace, namespace

from cilium.datapath.netlink.listeners import BoundSocket, bound_sockets, holders
from cilium.datapath.netlink.netns import run_in_netns

pytestmark = pytest.mark.kernel
PORT = 30080


@pytest.fixture
def node() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


def bound(node: Namespace, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        made.bind((address, port))
        if kind is socket.SOCK_STREAM:
            made.listen(1)
        return made

    return run_in_netns(node.fd, make)


def found(node: Namespace, first: int = PORT, last: int = PORT) -> list[BoundSocket]:
    return run_in_netns(node.fd, lambda: bound_sockets(first, last))


def test_listeners_of_both_families_and_protocols(node: Namespace) -> None:
    assert found(node) == []
    with (
        bound(node, socket.SOCK_STREAM, "0.0.0.0", PORT),
        bound(node, socket.SOCK_DGRAM, "::", PORT),
        bound(node, socket.SOCK_STREAM, "::", PORT - 1),
        bound(node, socket.SOCK_STREAM, "::", PORT + 1),
    ):
        rows = {(row.address, row.port, row.protocol, row.uid) for row in found(node)}
        assert rows == {(ip_address("0.0.0.0"), PORT, "TCP", 0), (ip_address("::"), PORT, "UDP", 0)}
        assert len(found(node, PORT - 1, PORT + 1)) == 4
        assert bound_sockets(PORT, PORT) == [], "of this namespace, not of others"
    assert found(node) == []


def test_a_client_is_no_listener(node: Namespace) -> None:
    with bound(node, socket.SOCK_DGRAM, "0.0.0.0", PORT) as client:
        run_in_netns(node.fd, lambda: client.connect(("0.0.0.0", 9)))
        assert found(node) == []


def test_who_holds_a_socket(node: Namespace) -> None:
    with bound(node, socket.SOCK_STREAM, "0.0.0.0", PORT):
        (row,) = found(node)
        with open("/proc/self/comm", encoding="utf-8") as own:
            name = own.read().strip()
        assert holders([row.inode])[row.inode].startswith(f"{name} (process ")
    assert holders([row.inode]) == {}
    assert holders([]) == {}
