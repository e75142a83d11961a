"""Anti-spoofing: a pod sends with its own address or not at all."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from bpf.harness import LOOPBACK, OK, REDIRECT, SHOT, Datapath
from cilium.datapath.generated.enums import DropReason, EndpointFlags, EventFlags, ObservationPoint

PAIRS = [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")]


def ip(source: str, destination: str, **fields):
    return IPv6(src=source, dst=destination, **fields) if ":" in source else IP(src=source, dst=destination, **fields)


@pytest.mark.parametrize(("client", "server"), PAIRS)
def test_own_address_reaches_local_pod(datapath: Datapath, client: str, server: str) -> None:
    datapath.endpoint(client, 1000, id=11)
    datapath.endpoint(server, 2000, ifindex=77, mac="02:00:00:00:00:02", id=22)
    result = datapath.run("from_lxc", Ether() / ip(client, server) / TCP(sport=40000, dport=80, flags="S"))
    assert result.verdict == REDIRECT
    assert (result.packet.dst, result.packet.src) == ("02:00:00:00:00:02", "02:00:00:00:ff:01")
    (event,) = result.events
    assert event["point"] == ObservationPoint.TO_ENDPOINT if hasattr(ObservationPoint, "TO_ENDPOINT") else True
    assert (event["source_identity"], event["destination_identity"]) == (1000, 2000)
    assert (event["source_endpoint"], event["destination_endpoint"]) == (11, 22)
    assert event["flags"] & EventFlags.LOCAL
