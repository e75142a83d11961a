"""Which Services have a health check port here, what it answers, and what is wrong with it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from unit.features.derived import Derived

from cilium.features.service_health.compute import FIELD, HealthCheckPorts, HealthCheckProblems
from cilium.features.service_health.rows import HealthCheck
from cilium.state import Kind, RowStatus
from cilium.tables.kubernetes import KubeNode
from cilium.tables.services import EndpointSlice, LabelTerm, Service, ServicePort, SliceEndpoint, SlicePort

HTTP = (ServicePort("http", 80, "TCP"),)
PORT = 31000


def service(name: str = "web", **more: Any) -> Service:
    fields: dict[str, Any] = {
        "kind": "LoadBalancer", "external_local": True, "health_check_node_port": PORT,
        "cluster_ips": (ip_address("10.96.0.1"),), "ports": HTTP, "created": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return Service("shop", name, **{**fields, **more})


def end(ip: str, node: str = "n1", *, ready: bool = True, terminating: bool = False) -> SliceEndpoint:
    return SliceEndpoint(ip_address(ip), ready, True, terminating, node)


def piece(name: str, *ends: SliceEndpoint, service: str = "web") -> EndpointSlice:
    return EndpointSlice("shop", name, service, tuple(ends), (SlicePort("http", 8080, "TCP"),))


class World(Derived):
    def __init__(self) -> None:
        super().__init__(
            inputs={
                "services": lambda row: row.key,
                "endpoint-slices": lambda row: row.key,
                "kube-nodes": lambda row: row.name,
            },
            outputs={"health-checks": lambda row: row.port},
            compute=HealthCheckPorts(node="n1").compute,
        )

    def checks(self) -> dict[int, tuple[str, int]]:
        return {row.port: (row.service, row.local_endpoints) for row in self.rows("health-checks").values()}


@pytest.fixture
async def world() -> World:
    return World()


async def test_ready_endpoints_of_this_node_count(world: World) -> None:
    world.put("endpoint-slices", piece("a", end("10.0.0.1"), end("10.0.1.1", "n2"), end("10.0.0.2", ready=False)))
    assert world.checks() == {}
    world.put("services", service())
    assert world.checks() == {PORT: ("shop/web", 1)}, "slices may be older than the port"
    world.put("endpoint-slices", piece("b", end("10.0.0.3")), piece("c", end("10.0.0.4"), service="other"))
    assert world.checks() == {PORT: ("shop/web", 2)}
    world.put("endpoint-slices", piece("a", end("10.0.0.1", ready=False, terminating=True)))
    assert world.checks() == {PORT: ("shop/web", 1)}
    world.drop("endpoint-slices", "shop/b")
    assert world.checks() == {PORT: ("shop/web", 0)}, "it answers, and says that nobody is here"


async def test_an_endpoint_counts_once(world: World) -> None:
    """Whatever its families, and if it is in two slices for a moment."""
    world.put("services", service())
    world.put(
        "endpoint-slices", piece("four", end("10.0.0.1")), piece("six", end("fd00::1")), piece("new", end("10.0.0.1"))
    )
    assert world.checks() == {PORT: ("shop/web", 1)}


async def test_a_slice_that_changes_its_service(world: World) -> None:
    world.put("services", service())
    world.put("endpoint-slices", piece("a", end("10.0.0.1")))
    world.put("endpoint-slices", piece("a", end("10.0.0.1"), service="other"))
    assert world.checks() == {PORT: ("shop/web", 0)}
    world.put("endpoint-slices", piece("a", end("10.0.0.1")))
    assert world.checks() == {PORT: ("shop/web", 1)}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "NodePort"}, {"external_local": False}, {"health_check_node_port": 0}, {"cluster_ips": ()},
        {"proxy_name": "somebody"},
    ],
)  # fmt: skip
async def test_services_without_a_port(world: World, change: dict[str, Any]) -> None:
    world.put("services", service())
    assert set(world.checks()) == {PORT}
    world.put("services", service(**change))
    assert world.checks() == {}
    world.put("endpoint-slices", piece("a", end("10.0.0.1")))
    world.put("services", service())
    assert world.checks() == {PORT: ("shop/web", 1)}
    world.drop("services", "shop/web")
    assert world.checks() == {}


async def test_a_port_that_changes(world: World) -> None:
    world.put("services", service())
    world.put("services", service(health_check_node_port=PORT + 1))
    assert world.checks() == {PORT + 1: ("shop/web", 0)}


async def test_only_nodes_that_serve_a_service_answer_for_it(world: World) -> None:
    """Where an annotation says that others serve it, packets of the load balancer would find nobody."""
    world.put("endpoint-slices", piece("a", end("10.0.0.1")))
    world.put("services", service(nodes=(LabelTerm("gateway", "exists"),)))
    assert world.checks() == {}
    world.put("kube-nodes", KubeNode("n2", {"gateway": ""}, {}))
    assert world.checks() == {}
    world.put("kube-nodes", KubeNode("n1", {"gateway": ""}, {}))
    assert world.checks() == {PORT: ("shop/web", 1)}, "its slices were there before"
    world.put("kube-nodes", KubeNode("n1", {}, {}))
    assert world.checks() == {}


async def test_the_older_of_two_services_has_a_port(world: World) -> None:
    world.put("services", service("young", created="2026-02-01T00:00:00Z"))
    world.put("services", service("old"))
    (row,) = world.rows("health-checks").values()
    assert (row.service, row.rivals) == ("shop/old", ("shop/young",))
    world.drop("services", "shop/old")
    (row,) = world.rows("health-checks").values()
    assert (row.service, row.rivals) == ("shop/young", ())


class Reports(Derived):
    def __init__(self) -> None:
        super().__init__(
            inputs={"health-checks": lambda row: row.port, "status": lambda row: row.key},
            outputs={"health-check-problems": lambda row: row.key},
            compute=HealthCheckProblems().compute,
        )

    def told(self) -> dict[str, str]:
        rows = self.rows("health-check-problems").values()
        assert all((row.kind, row.namespace, row.field) == ("Service", "shop", FIELD) for row in rows)
        return {row.name: row.message for row in rows}


async def test_problems_are_the_reconcilers_errors_and_the_rivals() -> None:
    world = Reports()
    world.put("health-checks", HealthCheck(PORT, "shop/web", 1, ("shop/young",)))
    second = f"{PORT} belongs to Service shop/web, which is older; choose another port"
    assert world.told() == {"young": second}
    world.put("status", RowStatus(PORT, Kind.ERROR, 1, "port 31000 of this node: in use", 1))
    assert world.told() == {"young": second, "web": "port 31000 of this node: in use"}
    world.put("status", RowStatus(PORT, Kind.PENDING, 1, attempts=1))
    assert set(world.told()) == {"young", "web"}, "an attempt takes nothing back"
    world.put("status", RowStatus(PORT, Kind.DONE, 1))
    assert world.told() == {"young": second}
    world.put("health-checks", HealthCheck(PORT, "shop/young", 1))
    assert world.told() == {}
    world.put("status", RowStatus(PORT, Kind.ERROR, 2, "no", 1))
    assert set(world.told()) == {"young"}
    world.drop("health-checks", PORT)
    assert world.told() == {}
