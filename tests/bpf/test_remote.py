"""Which way traffic takes to what is not here: tunnel, routes or the stack."""

from __future__ import annotations

import pytest
from bpf.harness import OK, REDIRECT, SHOT, Datapath
from bpf.packets import CLIENT, FAMILIES, REMOTE, SERVER, WORLD, tcp

from cilium.datapath.generated.enums import DropReason, IpcacheFlags, ObservationPoint, RoutingMode

TUNNEL_DEVICE = 88


@pytest.fixture(params=FAMILIES)
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def node(make_datapath, version: int) -> Datapath:
    made = make_datapath(tunnel_ifindex=TUNNEL_DEVICE)
    made.endpoint(CLIENT[version], 1000, id=11)
    return made


@pytest.mark.parametrize("tunnel", ["172.18.0.3", "fd12::3"])
def test_behind_another_node_through_the_tunnel(node: Datapath, version: int, tunnel: str) -> None:
    node.ipcache(REMOTE[version], 3000, tunnel=tunnel)
    packet = tcp(CLIENT[version], REMOTE[version])
    result = node.run("from_lxc", packet)
    assert (result.verdict, result.data) == (REDIRECT, bytes(packet))  # the hop is counted where it ends
    (event,) = result.events
    assert (event["point"], event["tunnel_vni"]) == (ObservationPoint.TO_OVERLAY, 1000)
    assert (event["source_identity"], event["destination_identity"]) == (1000, 3000)


def test_a_prefix_may_lie_behind_a_node(node: Datapath, version: int) -> None:
    prefix = "10.0.1.0/24" if version == 4 else "fd01::/64"
    node.ipcache(prefix, 3000, tunnel="172.18.0.3")
    assert node.run("from_lxc", tcp(CLIENT[version], REMOTE[version])).verdict == REDIRECT


def test_what_skips_the_tunnel(node: Datapath, version: int) -> None:
    node.ipcache(REMOTE[version], 3000, tunnel="172.18.0.3", flags=IpcacheFlags.SKIP_TUNNEL)
    assert node.run("from_lxc", tcp(CLIENT[version], REMOTE[version])).verdict == OK


def test_native_routing_never_tunnels(make_datapath, version: int) -> None:
    node = make_datapath(tunnel_ifindex=TUNNEL_DEVICE, routing_mode=RoutingMode.NATIVE)
    node.endpoint(CLIENT[version], 1000)
    node.ipcache(REMOTE[version], 3000, tunnel="172.18.0.3")
    assert node.run("from_lxc", tcp(CLIENT[version], REMOTE[version])).verdict == OK


def test_without_a_tunnel_device(make_datapath, version: int) -> None:
    node = make_datapath()
    node.endpoint(CLIENT[version], 1000)
    node.ipcache(REMOTE[version], 3000, tunnel="172.18.0.3")
    result = node.run("from_lxc", tcp(CLIENT[version], REMOTE[version]))
    assert result.drop == DropReason.NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT


def test_identities_of_one_node_do_not_travel(node: Datapath, version: int) -> None:
    node.ipcache(REMOTE[version], 3000, tunnel="172.18.0.3")
    node.ipcache(WORLD[version], 1 << 24 | 5)
    (event,) = node.run("from_host", tcp(WORLD[version], REMOTE[version])).events
    assert event["source_identity"] == 1 << 24 | 5
    assert event["tunnel_vni"] == (9 if version == 4 else 10)
    node.ipcache(WORLD[version], 2 << 24 | 5)
    (event,) = node.run("from_host", tcp(WORLD[version], REMOTE[version], 1234)).events
    assert (event["source_identity"], event["tunnel_vni"]) == (2 << 24 | 5, 6)


def test_the_node_reaches_remote_pods_as_host(node: Datapath, version: int) -> None:
    router = "10.0.0.254" if version == 4 else "fd00::fe"
    node.node_address(router)
    node.ipcache(REMOTE[version], 3000, tunnel="172.18.0.3")
    result = node.run("from_host", tcp(router, REMOTE[version]))
    assert result.verdict == REDIRECT
    assert [event["tunnel_vni"] for event in result.events] == [1]


def test_the_node_reaches_its_own_pods_through_their_interface(node: Datapath, version: int) -> None:
    node.endpoint(SERVER[version], 2000, ifindex=77, mac="02:00:00:00:00:02")
    result = node.run("from_host", tcp("10.0.0.254" if version == 4 else "fd00::fe", SERVER[version]))
    assert (result.verdict, result.events) == (REDIRECT, [])  # to_lxc judges and tells
    assert result.packet.dst == "02:00:00:00:00:02"


def test_an_address_that_nobody_has(node: Datapath, version: int) -> None:
    result = node.run("from_host", tcp(CLIENT[version], REMOTE[version]))
    assert (result.verdict, result.drop) == (SHOT, DropReason.UNKNOWN_L3_TARGET_ADDRESS)


def test_nobody_outside_has_the_address_of_a_pod(node: Datapath, version: int) -> None:
    node.endpoint(SERVER[version], 2000, ifindex=77)
    assert node.run("from_netdev", tcp(CLIENT[version], SERVER[version])).drop == DropReason.INVALID_SOURCE_IP
    assert node.run("from_netdev", tcp(REMOTE[version], SERVER[version])).verdict == REDIRECT


def test_native_traffic_is_judged_by_the_ipcache(node: Datapath, version: int) -> None:
    node.endpoint(SERVER[version], 2000, ifindex=77, ingress_policy=7)
    node.rule(7, 3000, 1)
    packet = tcp(REMOTE[version], SERVER[version])
    assert node.run("from_netdev", packet).drop == DropReason.POLICY_DENIED
    node.ipcache(REMOTE[version], 3000)
    assert node.run("from_netdev", packet).verdict == REDIRECT


def test_the_stack_keeps_what_is_not_for_pods(node: Datapath, version: int) -> None:
    for packet in (tcp(WORLD[version], REMOTE[version]), b"\xff" * 12 + b"\x88\xcc" + bytes(40)):
        result = node.run("from_netdev", packet)
        assert (result.verdict, result.data, result.events) == (OK, bytes(packet), [])
