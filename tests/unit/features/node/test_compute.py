"""Which routes lead to the pods of every node."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from unit.features.derived import Derived

from cilium.features.node.compute import Routes
from cilium.tables.kubernetes import CiliumNode
from cilium.tables.nodes import NodeAddressing

OWN = NodeAddressing(
    name="n1",
    internal_ips=(ip_address("172.30.0.1"), ip_address("fd30::1")),
    router_ips=(ip_address("10.0.0.1"), ip_address("fd00::1")),
    pod_cidrs=(ip_network("10.0.0.0/24"), ip_network("fd00::/120")),
    device="eth0",
    mtu=1500,
)
OTHER = CiliumNode(
    name="n2",
    labels={},
    internal_ips=(ip_address("172.30.0.2"), ip_address("fd30::2")),
    pod_cidrs=(ip_network("10.0.1.0/24"), ip_network("fd00::100/120")),
)


def routes(*, tunnel: bool = True, direct: bool = False) -> Derived:
    return Derived(
        inputs={"cilium-nodes": lambda row: row.name, "node-addressing": lambda row: row.name},
        outputs={"routes": lambda row: row.destination},
        compute=Routes(node="n1", tunnel=tunnel, direct=direct, tunnel_mtu=1450).compute,
    )


def shown(derived: Derived) -> dict[str, tuple[Any, ...]]:
    return {
        str(row.destination): (row.device, str(row.gateway or ""), str(row.source or ""), row.mtu)
        for row in derived.rows("routes").values()
    }


OWN_ROUTES = {
    "10.0.0.0/24": ("cilium_host", "", "10.0.0.1", 0),
    "fd00::/120": ("cilium_host", "", "fd00::1", 0),
}


@pytest.mark.parametrize(
    ("mode", "others"),
    [
        (
            {"tunnel": True},
            {
                "10.0.1.0/24": ("cilium_host", "", "10.0.0.1", 1450),
                "fd00::100/120": ("cilium_host", "", "fd00::1", 1450),
            },
        ),
        (
            {"tunnel": False, "direct": True},
            {
                "10.0.1.0/24": ("eth0", "172.30.0.2", "", 0),
                "fd00::100/120": ("eth0", "fd30::2", "", 0),
            },
        ),
        ({"tunnel": False, "direct": False}, {}),
    ],
)
async def test_routes_of_every_mode(mode: dict[str, bool], others: dict[str, tuple[Any, ...]]) -> None:
    derived = routes(**mode)
    derived.put("node-addressing", OWN)
    derived.put("cilium-nodes", OTHER)
    assert shown(derived) == OWN_ROUTES | others


async def test_nothing_before_this_node_is_addressed() -> None:
    derived = routes()
    derived.put("cilium-nodes", OTHER)
    assert shown(derived) == {}


async def test_a_node_that_goes_takes_its_routes_and_its_own_object_makes_none() -> None:
    derived = routes()
    derived.put("node-addressing", OWN)
    derived.put("cilium-nodes", OTHER, CiliumNode(name="n1", labels={}, pod_cidrs=OWN.pod_cidrs))
    derived.drop("cilium-nodes", "n2")
    assert shown(derived) == OWN_ROUTES


async def test_a_node_without_an_address_of_a_family_is_no_gateway_in_it() -> None:
    derived = routes(tunnel=False, direct=True)
    derived.put("node-addressing", OWN)
    derived.put("cilium-nodes", CiliumNode("n2", {}, (ip_address("172.30.0.2"),), pod_cidrs=OTHER.pod_cidrs))
    assert set(shown(derived)) == {*OWN_ROUTES, "10.0.1.0/24"}
