"""Which addresses of a node lead to host ports: families, scopes, the life of a pod, rivals, odd addresses."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface
from typing import Any

import pytest
from unit.features.derived import Derived

from cilium.features.host_ports.compute import HostPorts
from cilium.tables.devices import Device
from cilium.tables.kubernetes import HostPort, Pod
from cilium.tables.services import Scope
from cilium.tables.types import Ifindex

IPS = (ip_address("10.0.1.5"), ip_address("fd00::5"))
HTTP = HostPort(8080, 80, "TCP")


def pod(name: str = "web", *ports: HostPort, created: str = "2026-01-01T00:00:00Z", **more: Any) -> Pod:
    fields = {"phase": "Running", "ips": IPS, **more}
    return Pod("shop", name, "u", "n1", {}, {}, host_ports=ports or (HTTP,), created=created, **fields)


def device(*addresses: str) -> Device:
    return Device(Ifindex(2), "eth0", "", "", 1500, True, tuple(map(ip_interface, addresses)))


class World(Derived):
    def __init__(self, versions: tuple[int, ...] = (4, 6), protocols: tuple[str, ...] = ("TCP", "UDP")) -> None:
        super().__init__(
            inputs={"pods": lambda row: row.key, "devices": lambda row: row.ifindex},
            outputs={"host-port-frontends": lambda row: row.key, "host-port-problems": lambda row: row.key},
            compute=HostPorts(node="n1", versions=versions, protocols=protocols).compute,
        )

    def places(self) -> dict[str, str]:
        """Backends by `address:port/protocol scope`."""
        found = {}
        for row in self.rows("host-port-frontends").values():
            (end,) = row.backends
            found[f"{row.address} {row.port}/{row.protocol} {row.scope.value}"] = f"{end.address} {end.port}"
        return found

    def problems(self) -> dict[str, str]:
        return {row.name: row.message for row in self.rows("host-port-problems").values()}


@pytest.fixture
async def world() -> World:
    return World()


async def test_every_address_of_the_node_in_both_scopes(world: World) -> None:
    world.put("pods", pod())
    assert world.places() == {
        "0.0.0.0 8080/TCP cluster": "10.0.1.5 80",
        "0.0.0.0 8080/TCP external": "10.0.1.5 80",
        ":: 8080/TCP cluster": "fd00::5 80",
        ":: 8080/TCP external": "fd00::5 80",
    }
    row = world.rows("host-port-frontends")[ip_address("0.0.0.0"), 8080, "TCP", Scope.CLUSTER]
    assert (row.kind, row.service) == ("HostPort", "shop/web")
    assert [(end.node, end.terminating) for end in row.backends] == [("n1", False)]


async def test_one_family_only() -> None:
    world = World(versions=(6,))
    world.put("pods", pod())
    assert set(world.places()) == {":: 8080/TCP cluster", ":: 8080/TCP external"}
    single = World()
    single.put("pods", pod(ips=IPS[:1]))
    assert set(single.places()) == {"0.0.0.0 8080/TCP cluster", "0.0.0.0 8080/TCP external"}


async def test_a_pod_is_reached_while_it_runs(world: World) -> None:
    world.put("pods", pod(phase="Pending"))
    assert world.places() == {}
    world.put("pods", pod())
    assert len(world.places()) == 4
    world.put("pods", pod(deleting=True))
    ends = [row.backends[0] for row in world.rows("host-port-frontends").values()]
    assert len(ends) == 4
    assert all(end.terminating for end in ends), "it still answers, if nobody else does"
    world.put("pods", pod(phase="Succeeded"))
    assert world.places() == {}
    world.put("pods", pod())
    world.put("pods", pod(phase="Failed"))
    assert world.places() == {}
    world.put("pods", pod())
    world.drop("pods", "shop/web")
    assert world.places() == {}


async def test_pods_of_other_nodes_and_without_an_address(world: World) -> None:
    world.put("pods", Pod("shop", "far", "u", "n2", {}, {}, phase="Running", ips=IPS, host_ports=(HTTP,)))
    world.put("pods", pod("young", ips=()))
    assert world.places() == {}
    assert world.problems() == {}


async def test_a_certain_address(world: World) -> None:
    ports = (
        HostPort(53, 5353, "UDP", "192.0.2.1"),
        HostPort(54, 54, "TCP", "127.0.0.1"),
        HostPort(55, 55, "TCP", "::"),
        HostPort(56, 56, "TCP", "0.0.0.0"),
    )
    world.put("devices", device("192.0.2.1/24", "fd01::1/64"))
    world.put("pods", pod("web", *ports))
    assert set(world.places()) == {
        "192.0.2.1 53/UDP cluster", "192.0.2.1 53/UDP external",
        "127.0.0.1 54/TCP cluster",
        ":: 55/TCP cluster", ":: 55/TCP external",
        "0.0.0.0 56/TCP cluster", "0.0.0.0 56/TCP external",
    }  # fmt: skip
    assert world.problems() == {}


async def test_an_address_of_another_node_is_not_served_here_until_it_moves(world: World) -> None:
    world.put("devices", device("192.0.2.1/24"))
    world.put("pods", pod("web", HostPort(53, 53, "UDP", "192.0.2.9")))
    assert world.places() == {}
    assert "192.0.2.9 is no address of this node" in world.problems()["web"]
    world.put("devices", device("192.0.2.1/24", "192.0.2.9/32"))
    assert set(world.places()) == {"192.0.2.9 53/UDP cluster", "192.0.2.9 53/UDP external"}
    assert world.problems() == {}
    world.put("devices", device("192.0.2.1/24"))
    assert world.places() == {}


@pytest.mark.parametrize(
    ("port", "message"),
    [
        (HostPort(80, 80, "TCP", "nonsense"), "'nonsense' is no IP address"),
        (HostPort(80, 80, "SCTP"), "SCTP is not served by this node; served are TCP, UDP"),
    ],
)
async def test_what_cannot_be_served_is_named_and_the_rest_is(world: World, port: HostPort, message: str) -> None:
    world.put("pods", pod("web", port, HTTP))
    assert set(world.places()) == {
        f"{ip} 8080/TCP {scope}" for ip in ("0.0.0.0", "::") for scope in ("cluster", "external")
    }
    (problem,) = world.rows("host-port-problems").values()
    assert message in problem.message
    assert (problem.kind, problem.namespace, problem.name) == ("Pod", "shop", "web")
    assert problem.field == f"spec.containers.ports[80/{port.protocol}].hostPort"
    world.put("pods", pod("web", HTTP))
    assert world.problems() == {}


async def test_a_family_that_the_node_does_not_speak() -> None:
    world = World(versions=(4,))
    world.put("pods", pod("web", HostPort(80, 80, "TCP", "::1")))
    assert "IPv6" in world.problems()["web"]


async def test_the_older_of_two_pods_has_a_port(world: World) -> None:
    world.put("pods", pod("b", created="2026-01-02T00:00:00Z", ips=(ip_address("10.0.1.6"),)))
    world.put("pods", pod("a", created="2026-01-01T00:00:00Z"))
    assert world.places()["0.0.0.0 8080/TCP cluster"] == "10.0.1.5 80"
    assert world.problems() == {"b": "pod shop/a was first and has it; choose another port, or another node"}
    world.drop("pods", "shop/a")
    assert world.places() == {"0.0.0.0 8080/TCP cluster": "10.0.1.6 80", "0.0.0.0 8080/TCP external": "10.0.1.6 80"}
    assert world.problems() == {}


async def test_a_problem_goes_with_its_pod(world: World) -> None:
    world.put("pods", pod("a"), pod("b", created="2026-02-01T00:00:00Z"))
    assert set(world.problems()) == {"b"}
    world.drop("pods", "shop/b")
    assert world.problems() == {}
    assert len(world.places()) == 4
