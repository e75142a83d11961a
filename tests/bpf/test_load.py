"""Every configuration that the agent can ask for passes the verifier."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from bpf.harness import OBJECTS, Datapath
from bpf.packets import CLIENT, SERVER, tcp

from cilium.datapath.generated.enums import DropReason, RoutingMode

FAMILIES = [(1, 1), (1, 0), (0, 1)]


@pytest.mark.parametrize(("mode", "families"), list(product(RoutingMode, FAMILIES)))
def test_modes_and_families(make_datapath: Callable[..., Datapath], mode: int, families: tuple[int, int]) -> None:
    four, six = families
    datapath = make_datapath(routing_mode=mode, enable_ipv4=four, enable_ipv6=six, tunnel_ifindex=9, host_ifindex=8)
    assert all(datapath.program(name) > 0 for name in OBJECTS)
    for version, enabled in ((4, four), (6, six)):
        datapath.endpoint(CLIENT[version], 1000)
        drop = datapath.run("from_lxc", tcp(CLIENT[version], SERVER[version])).drop
        assert drop == (0 if enabled else DropReason.UNSUPPORTED_L3_PROTOCOL)


@pytest.mark.parametrize(("mode", "dsr"), list(product(RoutingMode, (0, 1))))
def test_services(make_datapath: Callable[..., Datapath], mode: int, dsr: int) -> None:
    datapath = make_datapath(routing_mode=mode, services=1, dsr=dsr, tunnel_ifindex=9, deny_response=1)
    assert all(datapath.program(name) > 0 for name in OBJECTS)


@pytest.mark.parametrize(("mode", "services"), list(product(RoutingMode, (0, 1))))
def test_host_firewall(make_datapath: Callable[..., Datapath], mode: int, services: int) -> None:
    datapath = make_datapath(host_firewall=1, routing_mode=mode, services=services, dsr=services, tunnel_ifindex=9)
    assert all(datapath.program(name) > 0 for name in OBJECTS)


@pytest.mark.parametrize(
    "off",
    [
        {"masquerade4": 0},
        {"masquerade6": 0},
        {"masquerade4": 0, "masquerade6": 0},
        {"fragments": 0},
        {"deny_response": 1},
    ],
)
def test_switches(make_datapath: Callable[..., Datapath], off: dict[str, int]) -> None:
    datapath = make_datapath(**off)
    assert all(datapath.program(name) > 0 for name in OBJECTS)
