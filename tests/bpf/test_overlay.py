"""What comes out of the tunnel: the identity in its key decides, and nothing is taken for granted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest
from bpf.harness import SHOT, Datapath
from bpf.nodes import Node, Underlay, execute
from bpf.packets import CLIENT, FAMILIES, REMOTE, tcp, udp
from scapy.packet import Packet

from cilium.datapath.generated.enums import DropReason, EventType, TraceReason

SEND = """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes.fromhex("{data}"), ("{address}", 8472))
"""


@pytest.fixture(scope="module")
def node(objects: None) -> Iterator[Node]:
    underlay = Underlay()
    try:
        made = Node(underlay, 1)
        made.pod(1, 1000, ingress_policy=7)
        yield made
    finally:
        underlay.close()


@pytest.fixture
def tunnelled(node: Node) -> Callable[..., list[tuple[int, int]]]:
    """Sends a frame through the tunnel as another node would; returns (event type, reason) of what came of it."""

    def send(frame: Packet, *, identity: int) -> list[tuple[int, int]]:
        list(node.datapath.events())
        data = b"\x08\0\0\0" + identity.to_bytes(3, "big") + b"\0" + bytes(frame)
        script = SEND.format(data=data.hex(), address=node.address4)
        execute(node.underlay.namespace, sys.executable, "-c", script)
        # Everything happened in the sender's own context: veth and tunnel hand on without a queue to wait for.
        return [(int(e["type"]), int(e["reason"])) for e in node.datapath.events() if e["tunnel_vni"] == identity]

    return send


DENIED = [(EventType.DROP, DropReason.POLICY_DENIED)]
NEW = [(EventType.TRACE, TraceReason.NEW)]


def test_the_identity_in_the_key_is_judged(node: Node, tunnelled) -> None:
    node.datapath.rule(7, 4321, 1)
    assert tunnelled(tcp("10.0.9.1", node.pod4(1), 1001), identity=4322) == DENIED
    assert tunnelled(tcp("10.0.9.1", node.pod4(1), 1002), identity=4321) == NEW
    assert tunnelled(tcp("fd00:0:0:9::1", node.pod6(1), 1003), identity=4321) == NEW


def test_the_ipcache_does_not_overrule_the_key(node: Node, tunnelled) -> None:
    node.datapath.rule(7, 4321, 1)
    node.datapath.ipcache("10.0.9.2", 4321)
    assert tunnelled(tcp("10.0.9.2", node.pod4(1), 1004), identity=4322) == DENIED


def test_another_nodes_host_is_a_remote_node(node: Node, tunnelled) -> None:
    assert tunnelled(tcp("10.0.9.254", node.pod4(1), 1005), identity=1) == DENIED  # not the host of this node
    node.datapath.rule(7, 6, 2)
    assert tunnelled(tcp("10.0.9.254", node.pod4(1), 1006), identity=1) == NEW
    node.datapath.ipcache("10.0.9.253", 7)
    assert tunnelled(tcp("10.0.9.253", node.pod4(1), 1007), identity=1) == DENIED  # the API server, no mere node


@pytest.mark.parametrize("carried", [1, 6, 7])
def test_a_node_that_policies_tell_apart_is_known_by_its_address(node: Node, tunnelled, carried: int) -> None:
    node.datapath.rule(7, 0x2000005, 3)
    node.datapath.rule(7, 6, 2)
    sources = {"10.0.9.252": node.pod4(1), "fd00:0:0:9::252": node.pod6(1)}
    for offset, (source, pod) in enumerate(sources.items()):
        node.datapath.ipcache(source, 0x2000006)
        assert tunnelled(tcp(source, pod, 1010 + 10 * carried + offset), identity=carried) == DENIED
        node.datapath.ipcache(source, 0x2000005)
        assert tunnelled(tcp(source, pod, 1015 + 10 * carried + offset), identity=carried) == NEW


def test_no_identity_no_entrance(node: Node, tunnelled) -> None:
    assert tunnelled(tcp("10.0.9.1", node.pod4(1)), identity=0) == [(EventType.DROP, DropReason.INVALID_IDENTITY)]


def test_for_nobody_here(node: Node, tunnelled) -> None:
    stale = [(EventType.DROP, DropReason.STALE_OR_UNROUTABLE_IP)]
    assert tunnelled(tcp("10.0.9.1", "10.0.1.77"), identity=4321) == stale
    assert tunnelled(tcp("fd00:0:0:9::1", "fd00:0:0:1::77"), identity=4321) == stale


@pytest.mark.parametrize("version", FAMILIES)
def test_without_a_tunnel_key(datapath: Datapath, version: int) -> None:
    datapath.endpoint(CLIENT[version], 1000)
    result = datapath.run("from_overlay", udp(REMOTE[version], CLIENT[version]))
    assert (result.verdict, result.drop) == (SHOT, DropReason.ERROR_RETRIEVING_TUNNEL_KEY)
