"""Truncated, contradictory and unusual headers."""

from __future__ import annotations

import pytest
from bpf.harness import OK, REDIRECT, Datapath
from bpf.packets import CLIENT, FAMILIES, SERVER, ip, tcp, udp
from scapy.layers.inet import TCP, IPOption_NOP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from cilium.datapath.generated.enums import DropReason


@pytest.fixture
def pods(datapath: Datapath) -> Datapath:
    for version in FAMILIES:
        datapath.endpoint(CLIENT[version], 1000)
        datapath.endpoint(SERVER[version], 2000, ifindex=77, ingress_policy=5)
    datapath.rule(5, 1000, 1, protocol=6, port=80)
    return datapath


@pytest.mark.parametrize("version", FAMILIES)
def test_every_truncation_is_dropped_and_none_passes(pods: Datapath, version: int) -> None:
    whole = bytes(tcp(CLIENT[version], SERVER[version]))
    shortest = 14 + (20 if version == 4 else 40)  # with less the kernel refuses the test run
    for length in range(shortest, len(whole)):
        result = pods.run("from_lxc", whole[:length])
        assert result.drop in (
            DropReason.INVALID_PACKET_DROPPED,
            DropReason.CT_TRUNCATED_OR_INVALID_HEADER,
        ), length
    assert pods.run("from_lxc", whole).verdict == REDIRECT


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (ip(CLIENT[4], SERVER[4], version=5) / TCP(), DropReason.INVALID_PACKET_DROPPED),
        (ip(CLIENT[4], SERVER[4], ihl=4) / TCP(), DropReason.INVALID_PACKET_DROPPED),
        (ip(CLIENT[4], SERVER[4], len=2000) / TCP(), DropReason.INVALID_PACKET_DROPPED),
        (ip(CLIENT[4], SERVER[4], len=10) / TCP(), DropReason.INVALID_PACKET_DROPPED),
        (ip(CLIENT[6], SERVER[6], plen=2000) / TCP(), DropReason.INVALID_PACKET_DROPPED),
        (ip(CLIENT[6], SERVER[6], version=4) / TCP(), DropReason.INVALID_PACKET_DROPPED),
        (ip(CLIENT[4], SERVER[4]) / TCP(dataofs=4), DropReason.CT_TRUNCATED_OR_INVALID_HEADER),
        (ip(CLIENT[6], SERVER[6], nh=6) / b"1234", DropReason.CT_TRUNCATED_OR_INVALID_HEADER),
        (ip(CLIENT[6], SERVER[6], nh=59) / b"", DropReason.INVALID_IPV6_EXTENSION_HEADER),
        (ip(CLIENT[6], SERVER[6], nh=135) / bytes(8), DropReason.INVALID_IPV6_EXTENSION_HEADER),
        (ip(CLIENT[6], SERVER[6], nh=253) / bytes(8), DropReason.INVALID_IPV6_EXTENSION_HEADER),
        (Ether(type=0x88CC) / bytes(40), DropReason.UNSUPPORTED_L3_PROTOCOL),
    ],
)
def test_contradictory_headers(pods: Datapath, packet: Packet, reason: int) -> None:
    assert pods.run("from_lxc", packet).drop == reason


def test_ipv4_options_are_stepped_over(pods: Datapath) -> None:
    options = [IPOption_NOP()] * 8
    packet = ip(CLIENT[4], SERVER[4], options=options) / TCP(sport=40000, dport=80, flags="S")
    assert pods.run("from_lxc", packet).verdict == REDIRECT
    packet = ip(CLIENT[4], SERVER[4], options=options) / TCP(sport=40000, dport=81, flags="S")
    assert pods.run("from_lxc", packet).drop == DropReason.POLICY_DENIED


@pytest.mark.parametrize(
    "extension",
    [
        IPv6ExtHdrHopByHop(),
        IPv6ExtHdrDestOpt(),
        IPv6ExtHdrRouting(),
        IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt(),
        AH(nh=6, payloadlen=4, icv=bytes(12)),
    ],
)
def test_policy_sees_the_ports_behind_extension_headers(pods: Datapath, extension: Packet) -> None:
    allowed = (
        Ether(dst="02:00:00:00:ff:01")
        / IPv6(src=CLIENT[6], dst=SERVER[6])
        / extension
        / TCP(sport=40000, dport=80, flags="S")
    )
    assert pods.run("from_lxc", allowed).verdict == REDIRECT
    denied = (
        Ether(dst="02:00:00:00:ff:01")
        / IPv6(src=CLIENT[6], dst=SERVER[6])
        / extension
        / TCP(sport=40000, dport=22, flags="S")
    )
    assert pods.run("from_lxc", denied).drop == DropReason.POLICY_DENIED


def test_endless_extension_headers_are_dropped(pods: Datapath) -> None:
    packet = Ether(dst="02:00:00:00:ff:01") / IPv6(src=CLIENT[6], dst=SERVER[6])
    for _ in range(9):
        packet /= IPv6ExtHdrDestOpt()
    assert pods.run("from_lxc", packet / TCP(dport=80)).drop == DropReason.INVALID_IPV6_EXTENSION_HEADER


def test_other_protocols_are_judged_without_ports(pods: Datapath) -> None:
    packet = ip(CLIENT[4], SERVER[4], proto=47) / bytes(20)
    assert pods.run("from_lxc", packet).drop == DropReason.POLICY_DENIED
    pods.rule(5, 1000, 1, protocol=47)
    assert pods.run("from_lxc", packet).verdict == REDIRECT


def test_last_hop_is_left_to_the_stack(pods: Datapath) -> None:
    assert pods.run("from_lxc", tcp(CLIENT[4], SERVER[4], ttl=1)).verdict == OK
    assert pods.run("from_lxc", tcp(CLIENT[6], SERVER[6], hlim=1)).verdict == OK


def test_a_family_that_is_off(make_datapath) -> None:
    datapath = make_datapath(enable_ipv6=0)
    datapath.endpoint(CLIENT[6], 1000)
    assert datapath.run("from_lxc", udp(CLIENT[6], SERVER[6])).drop == DropReason.UNSUPPORTED_L3_PROTOCOL
