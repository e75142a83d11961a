"""Cluster-pool IPAM: what nodes hold is honoured, what they lack is given, what cannot be given is said."""

from __future__ import annotations

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from cilium.features.ipam.pools import Pool, assign

V4 = Pool(cidrs=(ip_network("10.0.0.0/22"),), mask=24)
V6 = Pool(cidrs=(ip_network("fd00::/118"),), mask=120)


def nets(*texts: str) -> tuple[object, ...]:
    return tuple(ip_network(text) for text in texts)


def test_lowest_free_subnet_of_each_family() -> None:
    decisions = {row.node: row for row in assign([("b", ()), ("a", ())], [V4, V6])}
    assert decisions["a"].cidrs == nets("10.0.0.0/24", "fd00::/120")
    assert decisions["b"].cidrs == nets("10.0.1.0/24", "fd00::100/120")


def test_what_a_node_holds_it_keeps() -> None:
    decisions = {row.node: row for row in assign([("a", ()), ("b", nets("10.0.0.0/24"))], [V4])}
    assert decisions["b"].cidrs == nets("10.0.0.0/24")
    assert decisions["a"].cidrs == nets("10.0.1.0/24")


def test_a_cidr_outside_the_pools_is_left_alone() -> None:
    (row,) = assign([("a", nets("192.168.0.0/24"))], [V4])
    assert row.cidrs == nets("192.168.0.0/24")
    assert not row.error


def test_of_two_claims_the_first_by_name_wins_and_the_other_is_told() -> None:
    decisions = {row.node: row for row in assign([("b", nets("10.0.0.0/24")), ("a", nets("10.0.0.0/24"))], [V4])}
    assert decisions["a"].cidrs == nets("10.0.0.0/24")
    assert decisions["b"].cidrs == nets("10.0.1.0/24")
    assert "10.0.0.0/24 overlaps" in decisions["b"].error


def test_an_empty_pool_names_the_way_out() -> None:
    rows = assign([(f"n{number}", ()) for number in range(5)], [V4])
    assert [bool(row.error) for row in rows] == [False] * 4 + [True]
    assert "clusterPoolIPv4PodCIDRList" in rows[-1].error


@given(st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 7), max_size=2)), max_size=8))
def test_nobody_shares_a_subnet(claims: list[tuple[int, list[int]]]) -> None:
    held = {f"n{number}": [ip_network(f"10.0.{block}.0/24") for block in blocks] for number, blocks in claims}
    rows = assign(held.items(), [V4])
    inside = [cidr for row in rows for cidr in row.cidrs if cidr.subnet_of(V4.cidrs[0])]
    assert len(inside) == len(set(inside))
