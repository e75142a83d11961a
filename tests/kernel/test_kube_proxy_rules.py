"""The rule sets of bench/kube_proxy on the real kernel: they load, they translate, they refuse, they are replaced."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from bench import plain
from bench.kube_proxy.load import MODES, RulesRefusedError, load, run
from bench.kube_proxy.model import Endpoint, Node, ServicePort
from bench.services import CLUSTER_IPS, NODES
from cilium.datapath.netlink.netns import run_in_netns

T = TypeVar("T")
PORT, TARGET, NODE_PORT = 80, 8080, 31_000
TOOLS = {"iptables": "iptables-restore", "nftables": "nft"}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    if shutil.which(TOOLS[request.param]) is None:
        pytest.skip(f"needs {TOOLS[request.param]}")
    return str(request.param)


@pytest.fixture
def routed() -> Iterator[plain.Routed]:
    with plain.one_node("rules") as made:
        yield made


def service(version: int, *endpoints: str) -> ServicePort:
    return ServicePort(
        namespace="default", name="asked", port_name="http", cluster_ip=CLUSTER_IPS[version], port=PORT,
        endpoints=tuple(Endpoint(ip, TARGET) for ip in endpoints), node_port=NODE_PORT,
    )  # fmt: skip


def facts(version: int) -> dict[int, Node]:
    gateway = {4: "10.99.1.1", 6: "fd00:99:1::1"}[version]
    return {version: replace(NODES[version], addresses=(gateway,))}


@contextmanager
def listener(routed: plain.Routed, version: int) -> Iterator[socket.socket]:
    def listen() -> socket.socket:
        return socket.create_server((routed.route.addresses[version], TARGET), family=family(version))

    with within(routed.route.server, listen) as made:
        made.settimeout(5)
        yield made


def within(netns: str, action: Callable[[], T]) -> T:
    with Path(netns).open("rb") as file:
        return run_in_netns(file.fileno(), action)


def family(version: int) -> socket.AddressFamily:
    return socket.AF_INET6 if version == 6 else socket.AF_INET


def connect(routed: plain.Routed, address: str, port: int) -> socket.socket:
    return within(routed.route.client, lambda: socket.create_connection((address, port), timeout=5))


@pytest.mark.parametrize("version", [4, 6])
def test_a_cluster_ip_and_a_node_port_lead_to_the_endpoint(mode: str, version: int, routed: plain.Routed) -> None:
    backend = routed.route.addresses[version]
    load(mode, routed.nodes[0], {version: [service(version, backend)]}, facts(version))
    node = facts(version)[version].addresses[0]
    with listener(routed, version) as server:
        for address, port, masqueraded in ((CLUSTER_IPS[version], PORT, False), (node, NODE_PORT, True)):
            with connect(routed, address, port) as client, server.accept()[0] as accepted:
                assert client.getpeername()[:2] == (address, port)
                seen = accepted.getpeername()[0]
                assert (seen != client.getsockname()[0]) == masqueraded


@pytest.mark.parametrize("version", [4, 6])
def test_without_endpoints_it_is_refused_and_with_them_served_again(
    mode: str, version: int, routed: plain.Routed
) -> None:
    # A node has a default route, so what nobody translates comes as far as the rules that refuse it.
    plain.Namespaces.ip(routed.nodes[0], [f"route add {NODES[version].services} dev pod2"])
    load(mode, routed.nodes[0], {version: [service(version)]}, facts(version))
    with pytest.raises(ConnectionRefusedError):
        connect(routed, CLUSTER_IPS[version], PORT)
    load(mode, routed.nodes[0], {version: [service(version, routed.route.addresses[version])]}, facts(version))
    with listener(routed, version) as server, connect(routed, CLUSTER_IPS[version], PORT), server.accept()[0]:
        pass


def test_every_endpoint_gets_connections(mode: str, routed: plain.Routed) -> None:
    """Two ports of one address stand for two pods."""
    backend = routed.route.addresses[4]
    asked = replace(service(4), endpoints=tuple(Endpoint(backend, TARGET + n) for n in range(2)))
    load(mode, routed.nodes[0], {4: [asked]}, facts(4))

    def listen() -> list[socket.socket]:
        return [socket.create_server((backend, TARGET + n), backlog=64) for n in range(2)]

    servers = within(routed.route.server, listen)
    clients = [connect(routed, CLUSTER_IPS[4], PORT) for _ in range(40)]
    try:
        for server in servers:  # with even odds, one of them has none in one run of 10^12
            server.settimeout(5)
            server.accept()[0].close()
    finally:
        for each in (*clients, *servers):
            each.close()


def test_what_the_kernel_refuses_is_said(routed: plain.Routed) -> None:
    if shutil.which("nft") is None:
        pytest.skip("needs nft")
    with pytest.raises(RulesRefusedError, match="nft -f -"):
        run(routed.nodes[0], ["nft", "-f", "-"], "add rule ip nowhere nothing drop\n")
    listed = subprocess.run(
        ["ip", "netns", "exec", routed.nodes[0], "nft", "list", "ruleset"], capture_output=True, text=True, check=True
    )
    assert "nowhere" not in listed.stdout
