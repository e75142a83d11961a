"""Direct server return: the backend's node answers the client itself, and only in the name of what is a service."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from bpf.balanced import ANY, Cluster, address, end
from bpf.harness import REDIRECT, Datapath, encoded
from bpf.nodes import Node, inside
from bpf.packets import CLIENT, FAMILIES, WORLD, tcp, udp
from bpf.test_balance import address_of_outside
from scapy.layers.inet import IP, IPOption
from scapy.layers.inet6 import HBHOptUnknown, IPv6, IPv6ExtHdrDestOpt
from scapy.packet import Packet

from cilium.datapath.generated.enums import DropReason, NatDirection, NatFlags, RoutingMode, ServiceFlags, ServiceScope

EXTERNAL = ServiceScope.EXTERNAL
UDP_SEGMENT = 103  # linux/udp.h
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
both = pytest.mark.parametrize("version", FAMILIES)


@pytest.fixture(scope="module", params=[False, True], ids=["tc", "xdp"])
def cluster(request: pytest.FixtureRequest, objects: None) -> Iterator[Cluster]:
    made = Cluster(RoutingMode.NATIVE, dsr=1)
    try:
        made.route_natively()
        if request.param:
            made.accelerate(made.one)
        yield made
    finally:
        made.close()


@both
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("size", [10, 1000])
def test_the_backend_sees_the_client_and_answers_it_directly(
    cluster: Cluster, version: int, protocol: str, size: int
) -> None:
    source = 40300 + version + 100 * (protocol == "udp") + 200 * (size > 10)
    for services in cluster.services.values():
        services.put(
            ANY[version], 30080, end(cluster.two, 3, version),
            protocol=protocol, scope=EXTERNAL, flags=ServiceFlags.DSR,
        )  # fmt: skip
    asked = address(cluster.one, version)
    answer = cluster.ask(cluster.outside, protocol, asked, 30080, size=size, source=source)
    assert (answer.server, answer.client, answer.port, answer.size) == (
        "far", address_of_outside(cluster, version), source, size,
    )  # fmt: skip
    ((way, value),) = rows(cluster.one, source)
    assert way == NatDirection.FORWARD
    assert value["flags"] & NatFlags.DSR
    assert [way for way, _ in rows(cluster.two, source)] == [NatDirection.REVERSE]


def rows(node: Node, port: int) -> list[tuple[int, Any]]:
    """A client's, by its port: late packets of another test's connection leave rows at any time."""
    keys, values = node.datapath.map("cilium_snat").dump()
    hers = (keys["source_port"] == port) | (keys["destination_port"] == port)
    return list(zip(keys["direction"][hers].tolist(), values[hers], strict=True))


@both
def test_a_backend_of_the_node_that_was_asked_needs_no_option(cluster: Cluster, version: int) -> None:
    cluster.services[1].put(ANY[version], 30081, end(cluster.one, 2, version), scope=EXTERNAL, flags=ServiceFlags.DSR)
    assert cluster.ask(cluster.outside, "tcp", address(cluster.one, version), 30081).server == "near"


@both
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_server_on_another_node_itself_answers_directly(cluster: Cluster, version: int, protocol: str) -> None:
    port, at = 8200 + version + (10 if protocol == "udp" else 0), address(cluster.two, version)
    cluster.serve(cluster.two.namespace, "host2", port, at)
    for services in cluster.services.values():
        services.put(ANY[version], 30082, (at, port), protocol=protocol, scope=EXTERNAL, flags=ServiceFlags.DSR)
    answer = cluster.ask(cluster.outside, protocol, address(cluster.one, version), 30082, source=40301)
    assert (answer.server, answer.client) == ("host2", address_of_outside(cluster, version)), answer


@both
def test_datagrams_that_the_kernel_has_joined(cluster: Cluster, version: int) -> None:
    """Each of them carries the option in the end."""
    for services in cluster.services.values():
        services.put(
            ANY[version], 30083, end(cluster.two, 3, version),
            protocol="udp", scope=EXTERNAL, flags=ServiceFlags.DSR,
        )  # fmt: skip
    with inside(cluster.outside), socket.socket(FAMILY[version], socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        sock.connect((address(cluster.one, version), 30083))
        sock.send(b"x" * 3000)
        answers = [sock.recv(100).split()[-1] for _ in range(3)]
    assert answers == [b"1000"] * 3


def with_option(packet: Packet, service: str, port: int) -> Packet:
    data = port.to_bytes(2, "big")
    if ":" not in service:
        packet[IP].options = [IPOption(b"\x9a\x08" + data + bytes(encoded(service)[12:]))]
        return packet
    option = HBHOptUnknown(otype=0x1B, optlen=20, optdata=data + b"\0\0" + bytes(encoded(service)))
    inner = packet[IPv6].payload
    packet[IPv6].remove_payload()
    packet[IPv6].nh = 60
    return packet / IPv6ExtHdrDestOpt(options=[option], nh=6) / inner


@both
@pytest.mark.parametrize("known", [True, False])
def test_only_in_the_name_of_a_service(make_datapath, version: int, known: bool) -> None:
    datapath: Datapath = make_datapath(services=1, dsr=1, routing_mode=RoutingMode.NATIVE)
    vip = {4: "198.51.100.7", 6: "2001:db8:7::7"}[version]
    datapath.endpoint(CLIENT[version], 1000)
    if known:
        key = {"address": encoded(vip), "port": 80, "protocol": 6, "scope": EXTERNAL}
        datapath.put("cilium_lb_services", key, {"id": 5})
    outcome = datapath.run("from_netdev", with_option(tcp(WORLD[version], CLIENT[version], 40000, 8080), vip, 80))
    if known:
        assert outcome.verdict == REDIRECT
        (value,) = datapath.map("cilium_snat").dump()[1]
        assert value["source_port"] == 80
        assert value["service"] == 5
    else:
        assert outcome.drop == DropReason.SERVICE_BACKEND_NOT_FOUND
        assert len(datapath.map("cilium_snat").dump()[0]) == 0


@both
def test_a_packet_without_the_option_is_nothing_special(make_datapath, version: int) -> None:
    datapath: Datapath = make_datapath(services=1, dsr=1, routing_mode=RoutingMode.NATIVE)
    datapath.endpoint(CLIENT[version], 1000)
    assert datapath.run("from_netdev", udp(WORLD[version], CLIENT[version])).verdict == REDIRECT
    assert len(datapath.map("cilium_snat").dump()[0]) == 0
