"""Two that claim one address: who has it, who is named, and what happens when either goes."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import msgspec
import pytest
from unit.features.services.world import HTTP, LB, VIP, World, balanced, end, piece, service

from cilium.tables.problems import Reason
from cilium.tables.services import Backend, Frontend, Scope

replace = msgspec.structs.replace
OLD, YOUNG = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


@pytest.fixture
async def world() -> World:
    return World()


def redirect(address: Any, owner: str) -> Frontend:
    return Frontend(address, 80, "TCP", owner, "http", "LocalRedirect", (Backend(ip_address("10.0.0.99"), 8080),))


def test_the_older_gets_it_and_the_younger_takes_over(world: World) -> None:
    world.put(service("a-young", "10.96.0.12", created=YOUNG, external_ips=(VIP,)))
    assert world.problems() == {}
    world.put(service("old", "10.96.0.11", created=OLD, external_ips=(VIP,)))
    row = world.inside("192.0.2.1")
    assert (row.service, row.rivals) == ("shop/old", ("shop/a-young",))
    assert world.outside("192.0.2.1").service == "shop/old"
    message = "belongs to shop/old, which is older; choose another"
    assert world.problems() == {"shop/a-young 192.0.2.1 80/TCP": message}, "once, for both scopes"
    assert [found.reason for found in world.found.snapshot()] == [Reason.CONFLICT]
    world.drop("services", "shop/old")
    row = world.inside("192.0.2.1")
    assert (row.service, row.rivals) == ("shop/a-young", ())
    assert world.problems() == {}


def test_the_loser_keeps_what_is_its_own(world: World) -> None:
    world.put(service("old", "10.96.0.11", created=OLD, external_ips=(VIP,)))
    world.put(service("young", "10.96.0.12", created=YOUNG, external_ips=(VIP, LB)))
    assert world.inside("192.0.2.9").service == "shop/young"
    assert world.inside("10.96.0.12").service == "shop/young"
    world.put(service("young", "10.96.0.12", created=YOUNG, external_ips=(LB,)))
    assert world.problems() == {}
    assert world.inside("192.0.2.1").rivals == ()


def test_nobody_takes_a_cluster_ip_with_an_external_ip(world: World) -> None:
    """External IPs are anybody's to write, and this one is older."""
    world.put(service("thief", "10.96.0.66", created=OLD, external_ips=(ip_address("10.96.0.10"),)))
    assert world.inside("10.96.0.10").service == "shop/thief"
    world.put(service("web", "10.96.0.10", created=YOUNG))
    assert world.inside("10.96.0.10").service == "shop/web"
    assert world.problems() == {
        "shop/thief 10.96.0.10 80/TCP": "belongs to shop/web, whose ClusterIP it is; choose another"
    }


def test_an_address_that_a_controller_set_is_better_than_one_that_somebody_wrote(world: World) -> None:
    world.put(service("thief", "10.96.0.66", created=OLD, external_ips=(LB,)), balanced(created=YOUNG))
    assert world.outside("192.0.2.9").service == "shop/web"
    assert world.problems() == {
        "shop/thief 192.0.2.9 80/TCP": "belongs to shop/web, whose LoadBalancer it is; choose another"
    }


def test_one_service_may_name_an_address_twice(world: World) -> None:
    world.put(balanced(external_ips=(LB,)))
    assert world.inside("192.0.2.9").kind == "LoadBalancer"
    assert world.inside("192.0.2.9").rivals == ()
    assert world.problems() == {}


def test_other_ports_of_an_address_are_no_conflict(world: World) -> None:
    world.put(service("old", "10.96.0.11", created=OLD, external_ips=(VIP,)))
    world.put(service("young", "10.96.0.12", ports=(replace(HTTP, port=81),), created=YOUNG, external_ips=(VIP,)))
    assert world.inside("192.0.2.1", 81).service == "shop/young"
    assert world.problems() == {}


def test_a_redirect_of_a_service_is_no_conflict(world: World) -> None:
    world.put(service(), piece("a", end("10.0.0.1")), redirect(ip_address("10.96.0.10"), "shop/web"))
    assert world.ends("10.96.0.10") == ["10.0.0.99:8080"]
    assert world.inside("10.96.0.10").rivals == ()
    assert world.problems() == {}
    world.drop("others", redirect(ip_address("10.96.0.10"), "shop/web").key)
    assert world.ends("10.96.0.10") == ["10.0.0.1:8080"]


def test_who_is_not_redirected_keeps_the_service(world: World) -> None:
    """What the address stood for is kept beside it for them, and goes with the redirect, or with the service."""
    world.put(service(), piece("a", end("10.0.0.1")))
    assert world.row("10.96.0.10", scope=Scope.ORIGINAL) is None
    spared = replace(redirect(ip_address("10.96.0.10"), "shop/web"), skip_netns=(7,))
    world.put(spared)
    assert world.ends("10.96.0.10") == ["10.0.0.99:8080"]
    original = world.row("10.96.0.10", scope=Scope.ORIGINAL)
    assert original is not None
    assert (original.kind, [str(backend.address) for backend in original.backends]) == ("ClusterIP", ["10.0.0.1"])
    world.put(piece("a", end("10.0.0.2")))
    original = world.row("10.96.0.10", scope=Scope.ORIGINAL)
    assert original is not None
    assert [str(backend.address) for backend in original.backends] == ["10.0.0.2"]
    world.put(replace(spared, skip_netns=()))
    assert world.row("10.96.0.10", scope=Scope.ORIGINAL) is None
    world.put(spared)
    world.drop("others", spared.key)
    assert world.row("10.96.0.10", scope=Scope.ORIGINAL) is None
    assert world.ends("10.96.0.10") == ["10.0.0.2:8080"]
    world.put(spared)
    world.drop("services", "shop/web")
    assert world.row("10.96.0.10", scope=Scope.ORIGINAL) is None


@pytest.mark.parametrize("address", [VIP, LB])
def test_a_redirect_of_an_address_takes_none_that_a_service_has(world: World, address: Any) -> None:
    world.put(redirect(address, "shop/dns:local-redirect"))
    assert world.inside(str(address)).kind == "LocalRedirect"
    world.put(balanced(external_ips=(VIP,), created=YOUNG))
    assert world.inside(str(address)).service == "shop/web"
    assert [key.split()[0] for key in world.problems()] == ["shop/dns"]


def test_a_redirect_of_an_address_takes_no_cluster_ip(world: World) -> None:
    world.put(service(), redirect(ip_address("10.96.0.10"), "shop/dns:local-redirect"))
    assert world.inside("10.96.0.10").service == "shop/web"
    ((key, message),) = world.problems().items()
    assert key == "shop/dns 10.96.0.10 80/TCP"
    assert message == "belongs to shop/web, whose ClusterIP it is; choose another"
    assert next(iter(world.found.snapshot())).kind == "CiliumLocalRedirectPolicy"


def test_a_host_port_yields_to_a_node_port(world: World) -> None:
    """Its row goes on waiting for the port."""
    held = Frontend(
        ip_address("0.0.0.0"), 30080, "TCP", "shop/pod", "", "HostPort", (Backend(ip_address("10.0.0.5"), 1),),
        scope=Scope.EXTERNAL,
    )  # fmt: skip
    world.put(held)
    assert world.outside("0.0.0.0", 30080).kind == "HostPort"
    world.put(balanced())
    assert world.outside("0.0.0.0", 30080).kind == "NodePort"
    assert world.problems() == {
        "shop/pod node port 30080/TCP": "belongs to shop/web, whose NodePort it is; choose another"
    }
    world.drop("services", "shop/web")
    assert world.outside("0.0.0.0", 30080).kind == "HostPort"
    assert world.problems() == {}
