"""What local redirect policies mean on a node: whose pods answer for whom, when nobody does, and who is first."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from unit.features.derived import Derived

from cilium.features.local_redirect.compute import Redirects
from cilium.features.local_redirect.selection import selects
from cilium.state import Table
from cilium.tables.endpoints import Endpoint
from cilium.tables.kubernetes import Pod
from cilium.tables.redirects import RedirectPolicy, RedirectPort
from cilium.tables.rules import Requirement, Selector
from cilium.tables.services import Frontend, Service, ServicePort
from cilium.tables.types import EndpointId

PROXY = Selector((Requirement("k8s:app", "In", ("proxy",)),))
DNS = (ServicePort("dns", 53, "UDP"), ServicePort("dns-tcp", 53, "TCP"), ServicePort("metrics", 9153, "TCP"))
UDP, TCP = RedirectPort(53, "UDP", "dns"), RedirectPort(53, "TCP", "dns-tcp")
HOST_COOKIE = 7
PACKETS = 1 << 63


def policy(name: str = "p", **more: Any) -> RedirectPolicy:
    fields = {"service": "shop/dns", "selector": PROXY, "backend_ports": (UDP, TCP), **more}
    return RedirectPolicy("shop", name, "u", fields.pop("created", "2026-01-01T00:00:00Z"), **fields)


def by_address(name: str = "p", ip: str = "169.254.169.254", **more: Any) -> RedirectPolicy:
    ports = (RedirectPort(80, "TCP"),)
    backend = (RedirectPort(8080, "TCP"),)
    return policy(name, service="", address=ip_address(ip), ports=ports, backend_ports=backend, **more)


def service(*ports: ServicePort, ips: tuple[str, ...] = ("10.96.0.10", "fd10::10")) -> Service:
    return Service("shop", "dns", "ClusterIP", cluster_ips=tuple(map(ip_address, ips)), ports=ports or DNS)


def pod(name: str = "proxy", *ips: str, ready: bool = True, app: str = "proxy", **more: Any) -> Pod:
    addresses = tuple(map(ip_address, ips or ("10.0.1.5", "fd00::5")))
    fields = {"phase": "Running", "ips": addresses, "ready": ready, **more}
    return Pod(fields.pop("namespace", "shop"), name, "u", "n1", {"app": app}, {}, **fields)


def endpoint(number: int, name: str, cookie: int) -> Endpoint:
    return Endpoint(EndpointId(number), "pod", (), namespace="shop", pod=name, netns_cookie=cookie)


class World(Derived):
    def __init__(self, versions: tuple[int, ...] = (4, 6)) -> None:
        endpoints: Table[EndpointId, Endpoint] = Table(
            "endpoints",
            key=lambda row: row.id,
            indexes={"pod": lambda row: (f"{row.namespace}/{row.pod}",) if row.pod else ()},
        )
        super().__init__(
            inputs={
                "redirect-policies": lambda row: row.key,
                "services": lambda row: row.key,
                "pods": lambda row: row.key,
                "endpoints": endpoints,
            },
            outputs={
                "redirect-frontends": lambda row: row.key,
                "local-redirects": lambda row: row.key,
                "redirect-problems": lambda row: row.key,
            },
            compute=Redirects(node="n1", versions=versions, host_cookie=HOST_COOKIE).compute,
        )

    def places(self) -> dict[str, list[str]]:
        """Backends by `address port/protocol`."""
        return {
            f"{row.address} {row.port}/{row.protocol}": [f"{end.address} {end.port}" for end in row.backends]
            for row in self.rows("redirect-frontends").values()
        }

    def row(self) -> Frontend:
        """Any."""
        found: Frontend = next(iter(self.rows("redirect-frontends").values()))
        return found

    def problems(self) -> dict[str, str]:
        """Messages by policy and field."""
        return {f"{row.name} {row.field}": row.message for row in self.rows("redirect-problems").values()}


@pytest.fixture
async def world() -> World:
    return World()


async def test_a_service_whose_ports_are_joined_by_name(world: World) -> None:
    world.put("services", service())
    world.put("pods", pod())
    world.put("redirect-policies", policy())
    assert world.places() == {
        "10.96.0.10 53/UDP": ["10.0.1.5 53"],
        "10.96.0.10 53/TCP": ["10.0.1.5 53"],
        "fd10::10 53/UDP": ["fd00::5 53"],
        "fd10::10 53/TCP": ["fd00::5 53"],
    }, "and its metrics stay where they are"
    row = world.row()
    assert (row.kind, row.service, row.scope.value) == ("LocalRedirect", "shop/dns", "cluster")
    assert world.problems() == {}


async def test_some_ports_of_a_service(world: World) -> None:
    world.put("services", service())
    world.put("pods", pod())
    world.put("redirect-policies", policy(ports=(UDP,), backend_ports=(RedirectPort(5353, "UDP"),)))
    assert world.places() == {"10.96.0.10 53/UDP": ["10.0.1.5 5353"], "fd10::10 53/UDP": ["fd00::5 5353"]}


async def test_an_address(world: World) -> None:
    world.put("redirect-policies", by_address())
    assert world.places() == {}, "nobody here could answer"
    world.put("pods", pod("b", "10.0.1.6"), pod("a", "10.0.1.5"))
    assert world.places() == {"169.254.169.254 80/TCP": ["10.0.1.5 8080", "10.0.1.6 8080"]}
    assert world.row().service == "shop/p:local-redirect"
    world.drop("redirect-policies", "shop/p")
    assert world.places() == {}
    assert world.rows("local-redirects") == {}


@pytest.mark.parametrize(
    "gone",
    [
        {"ready": False}, {"phase": "Succeeded"}, {"deleting": True}, {"app": "other"}, {"namespace": "elsewhere"},
    ],
)  # fmt: skip
async def test_without_a_ready_pod_nothing_is_redirected(world: World, gone: dict[str, Any]) -> None:
    world.put("services", service())
    world.put("redirect-policies", policy(), by_address("a"))
    world.put("pods", pod(**gone))
    assert world.places() == {}
    world.put("pods", pod())
    assert len(world.places()) == 5
    if "namespace" not in gone:
        world.put("pods", pod(**gone))
        assert world.places() == {}
    world.put("pods", pod())
    world.drop("pods", "shop/proxy")
    assert world.places() == {}
    (first, *_) = world.rows("local-redirects").values()
    assert first.mappings, "people see what would be redirected"
    assert all(not mapping.backends for mapping in first.mappings)


async def test_a_pod_without_an_address_of_a_family_leaves_that_alone(world: World) -> None:
    world.put("services", service())
    world.put("pods", pod("proxy", "10.0.1.5"))
    world.put("redirect-policies", policy())
    assert set(world.places()) == {"10.96.0.10 53/UDP", "10.96.0.10 53/TCP"}


async def test_a_family_that_the_node_does_not_speak() -> None:
    world = World(versions=(4,))
    world.put("services", service())
    world.put("pods", pod())
    world.put("redirect-policies", policy(), by_address("six", "fd00::1:1"))
    assert set(world.places()) == {"10.96.0.10 53/UDP", "10.96.0.10 53/TCP"}
    assert world.problems() == {
        "six spec.redirectFrontend.addressMatcher.ip": "fd00::1:1 is IPv6, which this node does not speak"
    }


async def test_a_service_that_changes(world: World) -> None:
    field = "p spec.redirectFrontend.serviceMatcher"
    world.put("pods", pod())
    world.put("redirect-policies", policy(ports=(UDP, TCP)))
    assert world.problems() == {f"{field}.serviceName": "Service shop/dns does not exist"}
    world.put("services", service(DNS[0]))
    assert set(world.places()) == {"10.96.0.10 53/UDP", "fd10::10 53/UDP"}
    assert world.problems() == {f"{field}.toPorts[1]": "Service shop/dns has no port 53/TCP"}
    world.put("services", service(ips=("10.96.0.11",)))
    assert set(world.places()) == {"10.96.0.11 53/UDP", "10.96.0.11 53/TCP"}
    assert world.problems() == {}
    world.put("services", service(ips=()))
    assert world.problems() == {f"{field}.serviceName": "Service shop/dns has no cluster IP"}
    world.drop("services", "shop/dns")
    assert world.places() == {}


async def test_no_port_that_fits(world: World) -> None:
    world.put("services", service(DNS[2]))
    world.put("pods", pod())
    world.put("redirect-policies", policy())
    assert world.places() == {}
    assert "several ports are joined by their names" in world.problems()["p spec.redirectBackend.toPorts"]


async def test_the_older_of_two_policies_has_an_address(world: World) -> None:
    world.put("pods", pod(), pod("b", "10.0.1.9", app="b"))
    other = Selector((Requirement("k8s:app", "In", ("b",)),))
    world.put("redirect-policies", by_address("young", created="2026-02-01T00:00:00Z", selector=other))
    assert world.places() == {"169.254.169.254 80/TCP": ["10.0.1.9 8080"]}
    world.put("redirect-policies", by_address("old", created="2026-01-01T00:00:00Z"))
    assert world.places() == {"169.254.169.254 80/TCP": ["10.0.1.5 8080"]}
    assert world.problems() == {
        "young spec.redirectFrontend": "169.254.169.254 80/TCP is redirected by shop/old, which is older"
    }
    world.drop("redirect-policies", "shop/old")
    assert world.places() == {"169.254.169.254 80/TCP": ["10.0.1.9 8080"]}
    assert world.problems() == {}


async def test_what_the_backends_themselves_send(world: World) -> None:
    world.put("pods", pod(), pod("starting", "10.0.1.6", ready=False), pod("host", "192.0.2.1", host_network=True))
    world.put("endpoints", endpoint(1, "proxy", 11), endpoint(2, "starting", 12), endpoint(3, "client", 13))
    world.put("redirect-policies", by_address(skip_backends=True))
    assert world.row().skip_netns == (HOST_COOKIE, 11, 12, PACKETS | 1, PACKETS | 2)
    world.drop("endpoints", 2)
    assert world.row().skip_netns == (HOST_COOKIE, 11, PACKETS | 1)
    world.put("redirect-policies", by_address())
    assert world.row().skip_netns == ()


async def test_a_backend_whose_namespace_is_not_known_is_named(world: World) -> None:
    world.put("pods", pod())
    world.put("endpoints", endpoint(1, "proxy", 0))
    world.put("redirect-policies", by_address(skip_backends=True))
    assert "shop/proxy was made by an earlier version" in world.problems()["p spec.skipRedirectFromBackend"]
    world.put("endpoints", endpoint(1, "proxy", 11))
    assert world.problems() == {}


async def test_an_invalid_policy_is_named_and_its_last_right_version_goes_on(world: World) -> None:
    world.put("pods", pod())
    world.put(
        "redirect-policies", by_address(error="spec.redirectFrontend.addressMatcher.ip: 'x' is not an IP address")
    )
    assert set(world.places()) == {"169.254.169.254 80/TCP"}
    assert world.problems() == {"p spec.redirectFrontend.addressMatcher.ip": "'x' is not an IP address"}
    never = RedirectPolicy("shop", "q", error="spec.redirectBackend.toPorts: is empty")
    world.put("redirect-policies", never)
    assert len(world.places()) == 1
    assert world.problems()["q spec.redirectBackend.toPorts"] == "is empty"
    world.drop("redirect-policies", "shop/q", "shop/p")
    assert (world.problems(), world.places()) == ({}, {})


@pytest.mark.parametrize(
    ("term", "labels", "selected"),
    [
        (Requirement("k8s:app", "In", ("a", "b")), {"app": "b"}, True),
        (Requirement("k8s:app", "In", ("a",)), {}, False),
        (Requirement("any:app", "NotIn", ("a",)), {"app": "a"}, False),
        (Requirement("k8s:app", "NotIn", ("a",)), {}, True),
        (Requirement("k8s:app", "Exists"), {"app": ""}, True),
        (Requirement("k8s:app", "DoesNotExist"), {"app": ""}, False),
        (Requirement("reserved:host", "Exists"), {"host": ""}, False),
    ],
)
def test_label_terms(term: Requirement, labels: dict[str, str], selected: bool) -> None:
    assert selects(Selector((term,)), labels) is selected


def test_no_terms_select_every_pod() -> None:
    assert selects(Selector(), {})
