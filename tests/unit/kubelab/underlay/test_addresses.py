"""The choice of a lab's subnets."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from kubelab.underlay.addresses import NoFreeSubnetError, Plan, choose


def test_first_free_subnet_is_taken() -> None:
    assert choose([], []).index == 1
    assert choose([1, 2], []).index == 3


@pytest.mark.parametrize("route", ["172.30.1.0/24", "172.30.1.128/25", "172.30.0.0/23", "fd00:172:30:1::/64"])
def test_overlapping_routes_of_the_machine_are_avoided(route: str) -> None:
    assert choose([], [ip_network(route)]).index == 2


def test_no_free_subnet_names_the_way_out() -> None:
    with pytest.raises(NoFreeSubnetError, match="remove a lab or a route"):
        choose([], [ip_network("172.30.0.0/16")])


def test_addresses_of_a_plan_are_distinct_and_inside() -> None:
    plan = Plan(7)
    addresses = [*plan.host, *plan.router, *(a for n in range(1, 101) for a in plan.node(n))]
    assert len(set(addresses)) == len(addresses)
    for address in addresses:
        assert ip_network(address).subnet_of(plan.v6 if ":" in address else plan.v4)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [0, 101])
def test_impossible_nodes_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="1 to 100"):
        Plan(1).node(number)


def test_a_lab_of_one_family_has_addresses_of_that_family_only() -> None:
    plan = choose([], [], (6,))
    for addresses in (plan.host, plan.router, plan.node(1), plan.world, plan.name_servers, map(str, plan.subnets)):
        assert all(":" in address for address in addresses)
    assert len(plan.node(1)) == 1


def test_the_primary_family_comes_first() -> None:
    assert Plan(1, (6, 4)).node(2) == ("fd00:172:30:1::12", "172.30.1.12")
