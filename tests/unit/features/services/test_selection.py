"""Who gets new connections: weights, hints, and what is kept of the others."""

from __future__ import annotations

import pytest
from unit.features.services.world import World, balanced, end, node, piece, service

from cilium.tables.services import Frontend, SliceEndpoint

ZONE = "topology.kubernetes.io/zone"


@pytest.fixture
async def world() -> World:
    found = World(topology=True)
    found.put(node({ZONE: "a"}))
    return found


def slots(row: Frontend) -> dict[str, int]:
    return {str(one.address): one.weight for one in row.backends}


def test_weights_are_numbers_of_slots(world: World) -> None:
    world.put(service(), piece("a", end("10.0.0.1"), weight=100), piece("b", end("10.0.0.2"), weight=200))
    assert slots(world.inside("10.96.0.10")) == {"10.0.0.1": 1, "10.0.0.2": 2}
    world.put(piece("b", end("10.0.0.2"), weight=50))
    assert slots(world.inside("10.96.0.10")) == {"10.0.0.1": 2, "10.0.0.2": 1}


def test_a_weight_of_zero_is_for_maintenance(world: World) -> None:
    world.put(service(), piece("a", end("10.0.0.1"), weight=0), piece("b", end("10.0.0.2")))
    assert world.ends("10.96.0.10") == ["10.0.0.2:8080"]
    assert len(world.inside("10.96.0.10").backends) == 2, "the connections that it has go on"
    world.put(piece("b"))
    assert world.ends("10.96.0.10") == []
    leaving = end("10.0.0.3", ready=False, terminating=True)
    world.put(piece("b", leaving))
    assert world.ends("10.96.0.10") == ["10.0.0.3:8080"]


def test_weights_that_differ_much_are_rounded_and_nobody_is_lost(world: World) -> None:
    world.put(service(), piece("a", end("10.0.0.1"), weight=1), piece("b", end("10.0.0.2"), weight=65535))
    assert slots(world.inside("10.96.0.10")) == {"10.0.0.1": 1, "10.0.0.2": 256}


def test_weights_are_in_proportion_among_those_that_count(world: World) -> None:
    """Of this node alone there is one, and it has one slot."""
    local = balanced(external_local=True)
    world.put(local, piece("a", end("10.0.0.1"), weight=30), piece("b", end("10.0.1.1", node="n2"), weight=70))
    assert slots(world.inside("192.0.2.9")) == {"10.0.0.1": 3, "10.0.1.1": 7}
    assert slots(world.outside("192.0.2.9")) == {"10.0.0.1": 1}


IN_A, IN_B = end("10.0.0.1", node="n1", zones=("a",)), end("10.0.1.1", node="n2", zones=("b",))
IN_BOTH = end("10.0.2.1", node="n3", zones=("a", "b"))


def test_traffic_stays_in_its_zone(world: World) -> None:
    world.put(balanced(topology=True), piece("a", IN_A, IN_B, IN_BOTH))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080", "10.0.2.1:8080"]
    assert [str(one.address) for one in world.outside("192.0.2.9").serving] == ["10.0.0.1", "10.0.2.1"]
    assert len(world.inside("10.96.0.10").backends) == 3, "connections across zones go on"


def test_only_where_the_service_asks_for_it(world: World) -> None:
    world.put(service(), piece("a", IN_A, IN_B))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080", "10.0.1.1:8080"]
    world.put(service(topology=True))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080"]


async def test_only_where_the_setting_lets_it() -> None:
    world = World()
    world.put(node({ZONE: "a"}), service(topology=True), piece("a", IN_A, IN_B))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080", "10.0.1.1:8080"]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(end("10.0.1.1", node="n2"), id="one without hints"),
        pytest.param(end("10.0.1.1", node="n2", nodes=("n2",)), id="one with hints of another sort"),
    ],
)
def test_hints_count_only_if_every_ready_endpoint_has_them(world: World, other: SliceEndpoint) -> None:
    world.put(service(topology=True), piece("a", IN_A, other))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080", "10.0.1.1:8080"]


def test_endpoints_that_are_not_ready_need_no_hints(world: World) -> None:
    starting, leaving = end("10.0.0.8", ready=False, serving=False), end("10.0.0.9", ready=False, terminating=True)
    world.put(service(topology=True), piece("a", IN_A, IN_B, starting, leaving))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080"]
    world.put(piece("a", leaving))
    assert world.ends("10.96.0.10") == ["10.0.0.9:8080"]


def test_a_zone_without_endpoints_gets_everybody(world: World) -> None:
    world.put(service(topology=True), piece("a", IN_A, IN_B), node({ZONE: "c"}))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080", "10.0.1.1:8080"]
    world.put(node({ZONE: "b"}))
    assert world.ends("10.96.0.10") == ["10.0.1.1:8080"]
    world.put(node({}))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080", "10.0.1.1:8080"]


def test_the_node_is_nearer_than_the_zone(world: World) -> None:
    here = end("10.0.0.1", node="n1", zones=("a",), nodes=("n1",))
    near = end("10.0.1.1", node="n2", zones=("a",), nodes=("n2",))
    far = end("10.0.2.1", node="n3", zones=("b",), nodes=("n3",))
    world.put(service(topology=True), piece("a", here, near, far))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080"]
    world.put(piece("a", near, far))
    assert world.ends("10.96.0.10") == ["10.0.1.1:8080"], "nobody on this node, but somebody in its zone"


def test_local_is_stronger_than_near(world: World) -> None:
    local = service(topology=True, internal_local=True)
    world.put(local, piece("a", end("10.0.0.1", zones=("b",)), IN_B))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080"]


def test_a_change_of_zone_touches_those_that_look(world: World) -> None:
    world.put(service("plain", "10.96.0.11"), service(topology=True), piece("a", IN_A, IN_B))
    world.put(node({ZONE: "b"}))
    assert {row.service for row in world.computed} == {"shop/web"}
