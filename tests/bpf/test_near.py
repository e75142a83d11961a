"""Rows that a processor has read before: used for one epoch, and never for another address."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from bpf.harness import REDIRECT, Datapath
from bpf.packets import CLIENT, FAMILIES, SERVER, tcp

from cilium.datapath.addresses import address_bytes
from cilium.datapath.generated.enums import DropReason

OTHERS = {4: "10.9.0.0/16", 6: "fd09::/112"}


def index(address: str) -> int:
    """bpf/stages/near.h."""
    raw = address_bytes(ip_address(address))
    halves = int.from_bytes(raw[:8], "little") ^ int.from_bytes(raw[8:], "little")
    return (halves * 0x9E3779B97F4A7C15 & (1 << 64) - 1) >> 56


def identity_of(datapath: Datapath, source: str, destination: str) -> int:
    """As whom the receiver is told the sender; 0: not delivered."""
    outcome = datapath.run("from_lxc", tcp(source, destination))
    return int(outcome.events[0]["source_identity"]) if outcome.verdict == REDIRECT else 0


@pytest.mark.parametrize("version", FAMILIES)
def test_a_row_is_good_until_the_epoch_moves_on(datapath: Datapath, version: int) -> None:
    client, server = CLIENT[version], SERVER[version]
    datapath.endpoint(client, 1000, id=11)
    datapath.endpoint(server, 2000, id=22)
    assert identity_of(datapath, client, server) == 1000
    datapath.write_endpoint(client, 1001, id=11)
    datapath.advance()
    assert identity_of(datapath, client, server) == 1001
    datapath.endpoint(client, 1001, id=11, ifindex=77)  # the address is another pod's now
    assert datapath.run("from_lxc", tcp(client, server)).drop == DropReason.INVALID_SOURCE_IP


@pytest.mark.parametrize("version", FAMILIES)
def test_who_is_deleted_or_added_is_so_with_the_next_epoch(datapath: Datapath, version: int) -> None:
    client, server = CLIENT[version], SERVER[version]
    datapath.endpoint(client, 1000, id=11)
    datapath.run("from_lxc", tcp(client, server))  # nobody of this node: remembered as well
    datapath.endpoint(server, 2000, id=22)
    assert identity_of(datapath, client, server) == 1000
    datapath.drop_rows("cilium_lxc")
    datapath.advance()
    assert datapath.run("from_lxc", tcp(client, server)).drop == DropReason.INVALID_SOURCE_IP


@pytest.mark.parametrize("version", FAMILIES)
def test_addresses_that_share_a_place_are_told_apart(datapath: Datapath, version: int) -> None:
    client = CLIENT[version]
    same = [str(a) for a in ip_network(OTHERS[version]) if index(str(a)) == index(client)][:2]
    pods = {client: 1000, same[0]: 1001, same[1]: 1002}
    for number, (address, identity) in enumerate(pods.items(), 1):
        datapath.endpoint(address, identity, id=number, mac=f"02:00:00:00:00:{number:02x}")
    for _ in range(2):
        for source in pods:
            for number, destination in enumerate(pods, 1):
                outcome = datapath.run("from_lxc", tcp(source, destination))
                assert outcome.verdict == REDIRECT
                assert outcome.packet.dst == f"02:00:00:00:00:{number:02x}"
                assert {int(event["source_identity"]) for event in outcome.events} <= {pods[source]}


def test_neighbours_have_places_of_their_own() -> None:
    assert len({index(f"10.0.3.{number}") for number in range(256)}) == 256
    assert len({index(f"fd00::3:{number:x}") for number in range(256)}) == 256
