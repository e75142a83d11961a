"""Anti-spoofing: a pod sends with its own address or not at all."""

from __future__ import annotations

import pytest
from bpf.harness import LOOPBACK, NODE_MAC, REDIRECT, SHOT, Datapath
from bpf.packets import CLIENT, FAMILIES, SERVER, ip, tcp
from scapy.layers.inet import UDP

from cilium.datapath.generated.enums import DropReason, EndpointFlags, EventFlags


@pytest.fixture(params=FAMILIES)
def pair(request: pytest.FixtureRequest, datapath: Datapath) -> tuple[Datapath, str, str]:
    client, server = CLIENT[request.param], SERVER[request.param]
    datapath.endpoint(client, 1000, id=11)
    datapath.endpoint(server, 2000, ifindex=77, mac="02:00:00:00:00:02", id=22)
    return datapath, client, server


def test_own_address_reaches_a_local_pod_with_one_hop_less(pair: tuple[Datapath, str, str]) -> None:
    datapath, client, server = pair
    packet = tcp(client, server)
    result = datapath.run("from_lxc", packet)
    assert result.verdict == REDIRECT
    assert (result.packet.dst, result.packet.src) == ("02:00:00:00:00:02", NODE_MAC)
    hops = result.packet.payload.ttl if "." in client else result.packet.payload.hlim
    assert hops == 63
    assert bytes(type(packet)(result.data)) == result.data  # the header checksum still holds
    (event,) = result.events
    assert (event["source_identity"], event["destination_identity"]) == (1000, 2000)
    assert (event["source_endpoint"], event["destination_endpoint"]) == (11, 22)
    assert event["flags"] & EventFlags.LOCAL


def test_address_of_another_interface_is_dropped(pair: tuple[Datapath, str, str]) -> None:
    datapath, client, server = pair
    result = datapath.run("from_lxc", tcp(server, client))
    assert (result.verdict, result.drop) == (SHOT, DropReason.INVALID_SOURCE_IP)
    assert datapath.count(DropReason.INVALID_SOURCE_IP, 2) == 1


@pytest.mark.parametrize("source", ["10.9.9.9", "fd99::9", "::1.2.3.4", "::", "0.0.0.0"])
def test_unknown_address_is_dropped(datapath: Datapath, source: str) -> None:
    datapath.endpoint(CLIENT[4], 1000)
    result = datapath.run("from_lxc", tcp(source, SERVER[6] if ":" in source else SERVER[4]))
    assert (result.verdict, result.drop) == (SHOT, DropReason.INVALID_SOURCE_IP)


def test_row_by_interface_is_no_address(datapath: Datapath) -> None:
    datapath.endpoint(f"::{LOOPBACK:x}", 1000)
    result = datapath.run("from_lxc", tcp(f"::{LOOPBACK:x}", SERVER[6]))
    assert result.drop == DropReason.INVALID_SOURCE_IP


def test_interface_without_source_check_may_send_anything(pair: tuple[Datapath, str, str]) -> None:
    datapath, client, server = pair
    datapath.endpoint(f"::{LOOPBACK:x}", 1000, flags=EndpointFlags.NO_SOURCE_CHECK)
    result = datapath.run("from_lxc", tcp("10.9.9.9" if "." in client else "fd99::9", server))
    assert result.verdict == REDIRECT


@pytest.mark.parametrize(
    ("source", "destination", "protocol"),
    [("fe80::5", "ff02::fb", None), ("10.0.0.1", "224.0.0.22", 2)],
)
def test_link_local_chatter_is_not_reported(
    datapath: Datapath, source: str, destination: str, protocol: int | None
) -> None:
    datapath.endpoint(CLIENT[4], 1000)
    fields = {"proto": protocol} if protocol else {}
    packet = ip(source, destination, **fields) / (b"\x16\x00\x00\x00" if protocol else UDP(dport=5353))
    result = datapath.run("from_lxc", packet)
    assert (result.verdict, result.events) == (SHOT, [])
