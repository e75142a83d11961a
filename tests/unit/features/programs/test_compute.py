"""Which program runs where, and what masquerading uses."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest
from unit.features.derived import Derived

from cilium.features.programs.compute import Attachments, netdev
from cilium.tables.devices import Device
from cilium.tables.endpoints import Endpoint
from cilium.tables.types import EndpointId, Ifindex


def derived(*, accelerated: bool = False) -> Derived:
    return Derived(
        inputs={"endpoints": lambda row: row.id, "devices": lambda row: row.ifindex},
        outputs={"attachments": lambda row: row.key, "netdevs": lambda row: row.ifindex},
        compute=Attachments(accelerated=accelerated).compute,
    )


def device(name: str, index: int = 2, *addresses: str, up: bool = True, selected: bool = False) -> Device:
    interfaces = tuple(ip_interface(text) for text in addresses)
    return Device(Ifindex(index), name, "", "02:00:00:00:00:01", 1500, up, interfaces, selected)


def programs(world: Derived) -> dict[tuple[str, str], str]:
    return {key: row.program for key, row in world.rows("attachments").items()}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (device("cilium_host"), {("cilium_host", "egress"): "from_host"}),
        (device("cilium_vxlan"), {("cilium_vxlan", "ingress"): "from_overlay"}),
        (device("cilium_geneve"), {("cilium_geneve", "ingress"): "from_overlay"}),
        (device("cilium_net"), {}),
        (device("docker0"), {}),
        (
            device("eth0.100", selected=True),
            {("eth0.100", "ingress"): "from_netdev", ("eth0.100", "egress"): "to_netdev"},
        ),
    ],
)
async def test_programs_of_devices(row: Device, expected: dict[tuple[str, str], str]) -> None:
    world = derived()
    world.put("devices", row)
    assert programs(world) == expected


async def test_only_devices_to_others_run_xdp() -> None:
    world = derived(accelerated=True)
    world.put("devices", device("eth0", 2, selected=True), device("docker0", 3), device("cilium_host", 4))
    world.put(
        "endpoints", Endpoint(EndpointId(7), "pod", (ip_address("10.0.0.7"),), ifname="lxc7", ifindex=Ifindex(12))
    )
    assert [(key, name) for key, name in programs(world).items() if key[1] == "xdp"] == [(("eth0", "xdp"), "from_wire")]


async def test_an_endpoint_has_both_hooks_until_it_goes_and_the_node_itself_has_none() -> None:
    world = derived()
    world.put(
        "endpoints",
        Endpoint(EndpointId(7), "pod", (ip_address("10.0.0.7"),), ifname="lxc7", ifindex=Ifindex(12)),
        Endpoint(EndpointId(65535), "host", (ip_address("172.30.0.1"),)),
    )
    assert programs(world) == {("lxc7", "ingress"): "from_lxc", ("lxc7", "egress"): "to_lxc"}
    assert {row.ifindex for row in world.rows("attachments").values()} == {12}
    world.drop("endpoints", 7)
    assert programs(world) == {}


async def test_a_device_that_goes_down_masquerades_nothing_and_keeps_its_programs() -> None:
    world = derived()
    world.put("devices", device("eth0", 2, "172.30.0.1/24", selected=True))
    assert set(world.rows("netdevs")) == {2}
    world.put("devices", device("eth0", 2, "172.30.0.1/24", selected=True, up=False))
    assert world.rows("netdevs") == {}
    assert len(programs(world)) == 2
    world.drop("devices", 2)
    assert programs(world) == {}


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ((), ("None", "None")),
        (("169.254.1.1/16", "fe80::1/64"), ("None", "None")),
        (("172.30.0.1/24", "172.30.0.2/24", "fe80::1/64", "fd30::1/64"), ("172.30.0.1", "fd30::1")),
        (("fd30::1/64",), ("None", "fd30::1")),
    ],
)
def test_masquerading_uses_the_first_global_address_of_each_family(
    addresses: tuple[str, ...], expected: tuple[str, str]
) -> None:
    row = netdev(device("eth0", 2, *addresses))
    assert (str(row.masquerade4), str(row.masquerade6)) == expected
