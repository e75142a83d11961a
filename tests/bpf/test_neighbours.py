"""The node is the only neighbour that a pod has: ARP and IPv6 neighbour discovery."""

from __future__ import annotations

import pytest
from bpf.harness import LOOPBACK, NODE_MAC, OK, REDIRECT, SHOT, Datapath
from bpf.packets import CLIENT, checksums_hold
from scapy.layers.inet6 import (
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from cilium.datapath.generated.enums import DropReason

POD_MAC = "02:00:00:00:00:01"
GATEWAY = "fd00::a"


@pytest.fixture
def pod(datapath: Datapath) -> Datapath:
    datapath.endpoint(CLIENT[4], 1000)
    datapath.endpoint(CLIENT[6], 1000)
    return datapath


def arp(sender: str, target: str, operation: int = 1) -> Packet:
    return Ether(src=POD_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(op=operation, hwsrc=POD_MAC, psrc=sender, pdst=target)


def solicitation(source: str, target: str, *, dst: str = "33:33:ff:00:00:0a", option: bool = True) -> Packet:
    packet = Ether(src=POD_MAC, dst=dst) / IPv6(src=source, dst="ff02::1:ff00:a", hlim=255) / ICMPv6ND_NS(tgt=target)
    return packet / ICMPv6NDOptSrcLLAddr(lladdr=POD_MAC) if option else packet


@pytest.mark.parametrize("target", ["10.0.0.254", "169.254.1.1", "8.8.8.8"])
def test_arp_is_answered_for_anything(pod: Datapath, target: str) -> None:
    result = pod.run("from_lxc", arp(CLIENT[4], target))
    assert result.verdict == REDIRECT
    answer = result.packet[ARP]
    assert (answer.op, answer.hwsrc, answer.psrc) == (2, NODE_MAC, target)
    assert (answer.hwdst, answer.pdst) == (POD_MAC, CLIENT[4])
    assert (result.packet.dst, result.packet.src) == (POD_MAC, NODE_MAC)


@pytest.mark.parametrize(("sender", "target"), [("0.0.0.0", CLIENT[4]), (CLIENT[4], CLIENT[4])])
def test_probes_and_announcements_stay_unanswered(pod: Datapath, sender: str, target: str) -> None:
    result = pod.run("from_lxc", arp(sender, target))
    assert (result.verdict, result.events) == (SHOT, [])


def test_arp_with_a_foreign_address_is_dropped(pod: Datapath) -> None:
    assert pod.run("from_lxc", arp("10.9.9.9", "10.0.0.254")).drop == DropReason.INVALID_SOURCE_IP


def test_truncated_arp_is_dropped(pod: Datapath) -> None:
    assert pod.run("from_lxc", bytes(arp(CLIENT[4], "10.0.0.254"))[:30]).drop == DropReason.INVALID_PACKET_DROPPED


@pytest.mark.parametrize("target", [GATEWAY, "fe80::1"])
@pytest.mark.parametrize("option", [True, False])
def test_solicitation_is_answered(pod: Datapath, target: str, option: bool) -> None:
    result = pod.run("from_lxc", solicitation(CLIENT[6], target, option=option))
    assert result.verdict == REDIRECT
    answer = result.packet[ICMPv6ND_NA]
    assert (answer.tgt, answer.S, answer.O, answer.R) == (target, 1, 1, 1)
    assert answer[ICMPv6NDOptDstLLAddr].lladdr == NODE_MAC
    assert (result.packet[IPv6].src, result.packet[IPv6].dst, result.packet[IPv6].hlim) == (target, CLIENT[6], 255)
    assert (result.packet.dst, result.packet.src) == (POD_MAC, NODE_MAC)
    assert checksums_hold(result.data)


def test_unicast_probe_from_a_link_local_address_is_answered_with_its_own_target(pod: Datapath) -> None:
    result = pod.run("from_lxc", solicitation("fe80::5", GATEWAY, dst=NODE_MAC))
    assert result.verdict == REDIRECT
    assert result.packet[ICMPv6NDOptDstLLAddr].lladdr == NODE_MAC


def test_multicast_from_a_link_local_address_needs_the_row_by_interface(pod: Datapath) -> None:
    assert pod.run("from_lxc", solicitation("fe80::5", GATEWAY)).verdict == OK
    pod.endpoint(f"::{LOOPBACK:x}", 1000)
    result = pod.run("from_lxc", solicitation("fe80::5", GATEWAY))
    assert result.verdict == REDIRECT
    assert result.packet[ICMPv6NDOptDstLLAddr].lladdr == NODE_MAC


@pytest.mark.parametrize(("source", "target"), [("::", CLIENT[6]), ("::", "fe80::5"), (CLIENT[6], CLIENT[6])])
def test_duplicate_address_detection_finds_nobody(pod: Datapath, source: str, target: str) -> None:
    result = pod.run("from_lxc", solicitation(source, target))
    assert (result.verdict, result.events) == (SHOT, [])


@pytest.mark.parametrize("message", [ICMPv6ND_NS(tgt=GATEWAY), ICMPv6ND_NA(tgt=CLIENT[6]), ICMPv6MLReport2()])
@pytest.mark.parametrize("hook", ["from_lxc", "to_lxc"])
def test_discovery_from_beyond_the_link_is_judged_like_anything_else(pod: Datapath, message: Packet, hook: str) -> None:
    pod.endpoint(CLIENT[6], 1000, egress_policy=5, ingress_policy=5)
    source, target = (CLIENT[6], "fd01::5") if hook == "from_lxc" else ("fd01::5", CLIENT[6])
    packet = Ether(src=POD_MAC, dst=NODE_MAC) / IPv6(src=source, dst=target, hlim=254) / message
    assert pod.run(hook, packet).drop == DropReason.POLICY_DENIED


def test_advertisements_go_to_the_node_only(pod: Datapath) -> None:
    pod.node_address(GATEWAY)
    told = [
        pod.run("from_lxc", Ether(src=POD_MAC, dst=NODE_MAC) / IPv6(src=CLIENT[6], dst=to, hlim=255) / ICMPv6ND_NA())
        for to in (GATEWAY, "fe80::1", "fd00::77")
    ]
    assert [each.verdict for each in told] == [OK, OK, SHOT]


@pytest.mark.parametrize("message", [ICMPv6ND_RS(), ICMPv6MLReport2()])
def test_link_chatter_is_consumed_without_a_word(pod: Datapath, message: Packet) -> None:
    hops = 255 if ICMPv6ND_RS in message else 1
    packet = Ether(src=POD_MAC, dst="33:33:00:00:00:02") / IPv6(src="fe80::5", dst="ff02::2", hlim=hops) / message
    result = pod.run("from_lxc", packet)
    assert (result.verdict, result.events) == (SHOT, [])


def test_a_pod_is_no_router(pod: Datapath) -> None:
    packet = Ether(src=POD_MAC, dst="33:33:00:00:00:01") / IPv6(src="fe80::5", dst="ff02::1", hlim=255) / ICMPv6ND_RA()
    assert pod.run("from_lxc", packet).drop == DropReason.FORBIDDEN_ICMPV6_MESSAGE


def test_what_the_node_asks_a_pod_passes(pod: Datapath) -> None:
    assert pod.run("to_lxc", arp("10.0.0.254", CLIENT[4])).verdict == OK
    assert pod.run("to_lxc", solicitation("fe80::1", CLIENT[6])).verdict == OK
