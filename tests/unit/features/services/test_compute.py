"""Which backends an address gets: readiness, locality, ports by name, families, rivals, and what a change touches."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from cilium.features.services.compute import Frontends
from cilium.state import Derivation, Table, View
from cilium.tables.services import EndpointSlice, Frontend, Scope, Service, ServicePort, SliceEndpoint, SlicePort

replace = msgspec.structs.replace
HTTP = ServicePort("http", 80, "TCP")
LISTENING = (SlicePort("http", 8080, "TCP"),)


class World:
    """The inputs, the derivation and its output; `computed` counts the rows that the last step wrote."""

    def __init__(self, versions: frozenset[int] = frozenset({4, 6})) -> None:
        self.tables: dict[str, Table[Any, Any]] = {
            "services": Table("services", key=lambda row: row.key),
            "endpoint-slices": Table("endpoint-slices", key=lambda row: row.key),
        }
        self.writers = {name: table.writer("test") for name, table in self.tables.items()}
        self.out: Table[Any, Frontend] = Table("frontends", key=lambda row: row.key)
        self.frontends = Frontends(node="n1", versions=versions)
        self.computed: list[Any] = []
        self.derivation = Derivation(
            "services", inputs=self.tables, outputs={"frontends": self.out.writer("test")}, compute=self._compute
        )

    def _compute(self, view: View) -> Any:
        result = self.frontends.compute(view)
        self.computed = [*result["frontends"].upserts, *result["frontends"].deletes]
        return result

    def put(self, *rows: Service | EndpointSlice) -> None:
        for row in rows:
            self.writers["services" if isinstance(row, Service) else "endpoint-slices"].upsert(row)
        self.derivation.step()

    def drop(self, table: str, key: str) -> None:
        self.writers[table].delete(key)
        self.derivation.step()

    def row(self, address: str, port: int = 80, protocol: str = "TCP") -> Frontend | None:
        return self.out.snapshot().get((ip_address(address), port, protocol, Scope.CLUSTER))

    def ends(self, address: str, port: int = 80, protocol: str = "TCP") -> list[str] | None:
        row = self.row(address, port, protocol)
        return None if row is None else [f"{end.address}:{end.port}" for end in row.backends]


@pytest.fixture
async def world() -> World:
    return World()


def service(name: str = "web", *ips: str, ports: tuple[ServicePort, ...] = (HTTP,), **more: Any) -> Service:
    cluster = tuple(map(ip_address, ips or ("10.96.0.10",)))
    return Service("shop", name, more.pop("kind", "ClusterIP"), cluster_ips=cluster, ports=ports, **more)


def end(ip: str, *, ready: bool = True, serving: bool = True, terminating: bool = False, node: str = "n1") -> Any:
    return SliceEndpoint(ip_address(ip), ready, serving, terminating, node)


def piece(name: str, *ends: Any, service: str = "web", ports: Any = LISTENING) -> EndpointSlice:
    return EndpointSlice("shop", name, service, tuple(ends), tuple(ports))


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
    assert len(world.out) == 2, "SCTP is not translated in this version"


def test_only_the_ready_unless_nobody_is(world: World) -> None:
    leaving = end("10.0.0.1", ready=False, serving=True, terminating=True)
    starting = end("10.0.0.2", ready=False, serving=False)
    world.put(service(), piece("a", leaving, starting, end("10.0.0.3")))
    assert world.ends("10.96.0.10") == ["10.0.0.3:8080"]
    world.put(piece("a", leaving, starting))
    row = world.row("10.96.0.10")
    assert row
    assert [(str(one.address), one.terminating) for one in row.backends] == [("10.0.0.1", True)]
    world.put(piece("a", starting, end("10.0.0.1", ready=False, serving=False, terminating=True)))
    assert world.ends("10.96.0.10") == []


def test_an_endpoint_in_two_slices_counts_once(world: World) -> None:
    world.put(service(), piece("a", end("10.0.0.1", ready=False)), piece("b", end("10.0.0.1")))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080"]


def test_internal_traffic_policy_local(world: World) -> None:
    local = service(internal_local=True, external_ips=(ip_address("192.0.2.1"),))
    world.put(local, piece("a", end("10.0.0.1"), end("10.0.1.1", node="n2")))
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080"]
    assert world.ends("192.0.2.1") == ["10.0.0.1:8080", "10.0.1.1:8080"], "it speaks of cluster IPs only"


def test_every_kind_of_address(world: World) -> None:
    full = service(
        "web", "10.96.0.10", "fd00::10", kind="LoadBalancer", ports=(ServicePort("http", 80, "TCP", 30080),),
        external_ips=(ip_address("192.0.2.1"),), load_balancer_ips=(ip_address("2001:db8::1"),),
    )  # fmt: skip
    world.put(full)
    assert {(str(row.address), row.port, row.kind) for row in world.out.snapshot()} == {
        ("10.96.0.10", 80, "ClusterIP"),
        ("fd00::10", 80, "ClusterIP"),
        ("192.0.2.1", 80, "ExternalIP"),
        ("2001:db8::1", 80, "LoadBalancer"),
        ("0.0.0.0", 30080, "NodePort"),
        ("::", 30080, "NodePort"),
    }
    world.put(replace(full, kind="ClusterIP", ports=(HTTP,), external_ips=(), load_balancer_ips=()))
    assert {row.kind for row in world.out.snapshot()} == {"ClusterIP"}


def test_headless_and_foreign_services_are_left_alone(world: World) -> None:
    headless = Service("shop", "web", "ClusterIP", ports=(HTTP,))
    world.put(headless, service("other", "10.96.0.11", proxy_name="mesh"), piece("a", end("10.0.0.1")))
    assert len(world.out) == 0
    world.put(service("other", "10.96.0.11"))
    assert world.ends("10.96.0.11") == []


def test_of_two_that_claim_an_address_the_older_gets_it(world: World) -> None:
    shared = (ip_address("192.0.2.1"),)
    old = service("old", "10.96.0.11", created="2026-01-01T00:00:00Z", external_ips=shared)
    young = service("a-young", "10.96.0.12", created="2026-01-02T00:00:00Z", external_ips=shared)
    world.put(young)
    world.put(old)
    row = world.row("192.0.2.1")
    assert row
    assert (row.service, row.rivals) == ("shop/old", ("shop/a-young",))
    world.drop("services", "shop/old")
    row = world.row("192.0.2.1")
    assert row
    assert (row.service, row.rivals) == ("shop/a-young", ())


def test_a_change_touches_its_own_service_only(world: World) -> None:
    for number in range(20):
        world.put(
            service(f"s{number}", f"10.96.1.{number}"),
            piece(f"p{number}", end(f"10.0.0.{number}"), service=f"s{number}"),
        )
    world.put(piece("p7", end("10.0.0.7"), end("10.0.0.77"), service="s7"))
    assert [row.service for row in world.computed] == ["shop/s7"]
