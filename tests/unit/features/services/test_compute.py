"""Which backends an address gets: readiness, locality, ports by name, families, rivals, and what a change touches."""

from __future__ import annotations

from ipaddress import ip_address

import msgspec
import pytest
from unit.features.services.world import HTTP, World, balanced, end, piece, service

from cilium.tables.services import Scope, Service, ServicePort, SlicePort

replace = msgspec.structs.replace


@pytest.fixture
async def world() -> World:
    return World()


def test_a_service_gets_the_endpoints_of_its_slices(world: World) -> None:
    world.put(service(), piece("a", end("10.0.0.2")), piece("b", end("10.0.0.1")), piece("c", service="other"))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080", "10.0.0.2:8080"], "in a stable order"
    world.drop("endpoint-slices", "shop/a")
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080"]
    world.drop("endpoint-slices", "shop/b")
    assert world.ends("10.96.0.10") == [], "nobody is there, but the address is known: clients are refused"
    world.drop("services", "shop/web")
    assert world.row("10.96.0.10") is None


def test_slices_may_come_before_their_service(world: World) -> None:
    world.put(piece("a", end("10.0.0.1")))
    assert len(world.out) == 0
    world.put(service())
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080"]


def test_a_slice_may_change_hands(world: World) -> None:
    world.put(service(), service("new", "10.96.0.11"), piece("a", end("10.0.0.1")))
    world.put(piece("a", end("10.0.0.1"), service="new"))
    assert world.ends("10.96.0.10") == []
    assert world.ends("10.96.0.11") == ["10.0.0.1:8080"]


def test_both_families_get_their_own(world: World) -> None:
    world.put(service("web", "10.96.0.10", "fd00::10"), piece("a", end("10.0.0.1")), piece("b", end("fd00::1")))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080"]
    assert world.ends("fd00::10") == ["fd00::1:8080"]


async def test_a_family_that_is_off_has_no_rows() -> None:
    world = World(frozenset({6}))
    world.put(service("web", "10.96.0.10", "fd00::10"), piece("a", end("fd00::1")))
    assert [str(row.address) for row in world.out.snapshot()] == ["fd00::10"]


def test_named_ports_differ_between_slices(world: World) -> None:
    old, new = SlicePort("http", 8080, "TCP"), SlicePort("http", 9090, "TCP")
    world.put(service(), piece("a", end("10.0.0.1"), ports=(old,)), piece("b", end("10.0.0.2"), ports=(new,)))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080", "10.0.0.2:9090"]


def test_ports_are_matched_by_name_and_protocol(world: World) -> None:
    ports = (ServicePort("dns", 53, "UDP"), ServicePort("dns-tcp", 53, "TCP"), ServicePort("sctp", 1, "SCTP"))
    mine = (SlicePort("dns", 5353, "UDP"), SlicePort("dns-tcp", 5354, "TCP"), SlicePort("sctp", 1, "SCTP"))
    world.put(service(ports=ports), piece("a", end("10.0.0.1"), ports=mine))
    assert world.ends("10.96.0.10", 53, "UDP") == ["10.0.0.1:5353"]
    assert world.ends("10.96.0.10", 53, "TCP") == ["10.0.0.1:5354"]
    assert len(world.out) == 2
    assert world.problems() == {"shop/web spec.ports[2]": "1/SCTP is not served; set sctp.enabled to true"}
    world.put(service(ports=ports[:2]))
    assert world.problems() == {}


def test_only_the_ready_unless_nobody_is(world: World) -> None:
    leaving = end("10.0.0.1", ready=False, serving=True, terminating=True)
    starting = end("10.0.0.2", ready=False, serving=False)
    world.put(service(), piece("a", leaving, starting, end("10.0.0.3")))
    assert world.ends("10.96.0.10") == ["10.0.0.3:8080"]
    world.put(piece("a", leaving, starting))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080"]
    world.put(piece("a", starting, end("10.0.0.1", ready=False, serving=False, terminating=True)))
    assert world.ends("10.96.0.10") == []


def test_connections_to_whoever_is_not_ready_go_on(world: World) -> None:
    """Their backends stay as long as the slices have them."""
    gone, flaps = end("10.0.0.1", ready=False, serving=False, terminating=True), end("10.0.0.2", ready=False)
    world.put(service(), piece("a", gone, flaps, end("10.0.0.3")))
    assert [(str(one.address), one.terminating, one.weight) for one in world.inside("10.96.0.10").backends] == [
        ("10.0.0.1", True, 0),
        ("10.0.0.2", False, 0),
        ("10.0.0.3", False, 1),
    ]


def test_whoever_is_published_before_it_is_ready_is_ready(world: World) -> None:
    """publishNotReadyAddresses: the API says ready, also of pods that terminate."""
    world.put(service(), piece("a", end("10.0.0.1", ready=True, serving=False, terminating=True)))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080"]
    assert not world.inside("10.96.0.10").backends[0].terminating


def test_an_endpoint_in_two_slices_counts_once(world: World) -> None:
    world.put(service(), piece("a", end("10.0.0.1", ready=False)), piece("b", end("10.0.0.1")))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080"]


def test_internal_traffic_policy_local(world: World) -> None:
    local = service(internal_local=True, external_ips=(ip_address("192.0.2.1"),))
    world.put(local, piece("a", end("10.0.0.1"), end("10.0.1.1", node="n2")))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080"]
    assert world.ends("192.0.2.1") == ["10.0.0.1:8080", "10.0.1.1:8080"], "it speaks of cluster IPs only"


def test_every_kind_of_address(world: World) -> None:
    full = balanced("10.96.0.10", "fd00::10", load_balancer_ips=(ip_address("2001:db8::1"),))
    world.put(full)
    inside = {
        ("10.96.0.10", 80, "ClusterIP"),
        ("fd00::10", 80, "ClusterIP"),
        ("192.0.2.1", 80, "ExternalIP"),
        ("2001:db8::1", 80, "LoadBalancer"),
        ("0.0.0.0", 30080, "NodePort"),
        ("::", 30080, "NodePort"),
    }
    rows = list(world.out.snapshot())
    assert {(str(row.address), row.port, row.kind) for row in rows if row.scope is Scope.CLUSTER} == inside
    outside = {(str(row.address), row.port, row.kind) for row in rows if row.scope is Scope.EXTERNAL}
    assert outside == {one for one in inside if one[2] != "ClusterIP"}
    world.put(replace(full, kind="ClusterIP", ports=(HTTP,), external_ips=(), load_balancer_ips=()))
    assert {row.kind for row in world.out.snapshot()} == {"ClusterIP"}


def test_headless_and_foreign_services_are_left_alone(world: World) -> None:
    headless = Service("shop", "web", "ClusterIP", ports=(HTTP,))
    world.put(headless, service("other", "10.96.0.11", proxy_name="mesh"), piece("a", end("10.0.0.1")))
    assert len(world.out) == 0
    world.put(service("other", "10.96.0.11"))
    assert world.ends("10.96.0.11") == []


def test_a_change_touches_its_own_service_only(world: World) -> None:
    for number in range(20):
        world.put(
            service(f"s{number}", f"10.96.1.{number}"),
            piece(f"p{number}", end(f"10.0.0.{number}"), service=f"s{number}"),
        )
    world.put(piece("p7", end("10.0.0.7"), end("10.0.0.77"), service="s7"))
    assert [row.service for row in world.computed] == ["shop/s7"]
