"""Fragments have no ports but the first: the others are judged with its."""

from __future__ import annotations

import pytest
from bpf.harness import REDIRECT, Datapath
from bpf.packets import CLIENT, FAMILIES, SERVER
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from cilium.datapath.generated.enums import DropReason


def fragments(version: int, port: int = 53, number: int = 99, proto: Packet | None = None) -> list[Packet]:
    payload = UDP(sport=40000, dport=port) / bytes(3000)
    if version == 4:
        return [
            Ether(dst="02:00:00:00:ff:01") / part
            for part in fragment(IP(src=CLIENT[4], dst=SERVER[4], id=number) / payload, 1000)
        ]
    whole = IPv6(src=CLIENT[6], dst=SERVER[6]) / IPv6ExtHdrFragment(id=number) / payload
    return [Ether(dst="02:00:00:00:ff:01") / part for part in fragment6(whole, 1000)]


def pods(datapath: Datapath, version: int) -> None:
    datapath.endpoint(CLIENT[version], 1000)
    datapath.endpoint(SERVER[version], 2000, ifindex=77, ingress_policy=7)
    datapath.rule(7, 1000, 1, protocol=17, port=53)


@pytest.mark.parametrize("version", FAMILIES)
def test_all_parts_pass_with_the_first(datapath: Datapath, version: int) -> None:
    pods(datapath, version)
    parts = fragments(version)
    assert len(parts) >= 3
    assert [datapath.run("from_lxc", part).verdict for part in parts] == [REDIRECT] * len(parts)
    ((_, entry),) = datapath.connections()
    assert entry["packets"][0] == len(parts)


@pytest.mark.parametrize("version", FAMILIES)
def test_later_parts_of_a_denied_datagram_are_denied(datapath: Datapath, version: int) -> None:
    pods(datapath, version)
    for part in fragments(version, port=54):
        assert datapath.run("from_lxc", part).drop == DropReason.POLICY_DENIED


@pytest.mark.parametrize("version", FAMILIES)
def test_a_part_without_its_first_is_dropped(datapath: Datapath, version: int) -> None:
    pods(datapath, version)
    missing = DropReason.FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND
    assert datapath.run("from_lxc", fragments(version)[1]).drop == missing
    datapath.run("from_lxc", fragments(version)[0])
    assert datapath.run("from_lxc", fragments(version, number=100)[1]).drop == missing


@pytest.mark.parametrize("version", FAMILIES)
def test_fragments_can_be_switched_off(make_datapath, version: int) -> None:
    datapath = make_datapath(fragments=0)
    pods(datapath, version)
    assert datapath.run("from_lxc", fragments(version)[0]).drop == DropReason.IP_FRAGMENTATION_NOT_SUPPORTED
