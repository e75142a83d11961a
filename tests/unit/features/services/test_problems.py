"""All that is wrong with services in one table, and each problem told once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from cilium.features.services.events import ProblemEvents, event
from cilium.features.services.problems import Problems
from cilium.protocols.kubernetes.events import LONGEST
from cilium.state import Derivation, Kind, RowStatus, Table
from cilium.tables.problems import Problem, Reason
from cilium.tables.services import Frontend, Scope

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CONFLICT = Problem("Service", "shop", "web", "192.0.2.1 80/TCP", "belongs to shop/old", Reason.CONFLICT)


class World:
    def __init__(self) -> None:
        self.tables: dict[str, Table[Any, Any]] = {
            "service-findings": Table("service-findings", key=lambda row: row.key),
            "host-port-problems": Table("host-port-problems", key=lambda row: row.key),
            "frontends": Table("frontends", key=lambda row: row.key),
            "services-status": Table("services-status", key=lambda row: row.key),
        }
        self.writers = {name: table.writer("test") for name, table in self.tables.items()}
        self.out: Table[Any, Problem] = Table("service-problems", key=lambda row: row.key)
        self.derivation = Derivation(
            "service-problems",
            inputs=self.tables,
            outputs={"service-problems": self.out.writer("test")},
            compute=Problems(["service-findings", "host-port-problems"]).compute,
        )

    def put(self, table: str, *rows: Any) -> list[str]:
        for row in rows:
            self.writers[table].upsert(row)
        return self.step()

    def drop(self, table: str, key: Any) -> list[str]:
        self.writers[table].delete(key)
        return self.step()

    def step(self) -> list[str]:
        self.derivation.step()
        return sorted(map(str, self.out.snapshot()))


@pytest.fixture
async def world() -> World:
    return World()


def frontend(scope: Scope = Scope.CLUSTER, kind: str = "ClusterIP") -> Frontend:
    return Frontend(ip_address("10.96.0.10"), 80, "TCP", "shop/web", "http", kind, scope=scope)


def failed(row: Frontend, error: str = "no room") -> RowStatus[Any]:
    return RowStatus(row.key, Kind.ERROR, 1, error=error, attempts=1)


def test_whoever_finds_a_problem_it_is_there_until_it_is_gone(world: World) -> None:
    pod = Problem("Pod", "shop", "x", "spec", "taken")
    assert world.put("service-findings", CONFLICT) == ["Service shop/web: 192.0.2.1 80/TCP: belongs to shop/old"]
    assert len(world.put("host-port-problems", pod)) == 2
    assert world.drop("service-findings", CONFLICT.key) == ["Pod shop/x: spec: taken"]
    assert world.drop("host-port-problems", pod.key) == []


def test_what_the_kernel_did_not_take_is_one_problem_for_its_service(world: World) -> None:
    rows = [frontend(), frontend(Scope.EXTERNAL)]
    world.put("frontends", *rows)
    (found,) = world.put("services-status", *map(failed, rows))
    assert found == "Service shop/web: addresses: 10.96.0.10 80/TCP is not served as it should be: no room"
    assert next(iter(world.out.snapshot())).reason is Reason.NOT_PROGRAMMED
    done = RowStatus(rows[0].key, Kind.DONE, 2)
    assert len(world.put("services-status", done)) == 1, "the other one is still there"
    assert world.drop("services-status", rows[1].key) == []


def test_a_failure_lasts_while_it_is_tried_again(world: World) -> None:
    """Otherwise every attempt takes the problem back and tells it anew."""
    row = frontend()
    world.put("frontends", row)
    before = world.put("services-status", failed(row))
    assert world.put("services-status", RowStatus(row.key, Kind.PENDING, 1, attempts=1)) == before != []
    assert world.put("services-status", RowStatus(row.key, Kind.DONE, 1)) == []
    world.put("services-status", failed(row))
    world.drop("frontends", row.key)
    assert world.put("services-status", RowStatus(row.key, Kind.PENDING, 2)) == [], "nobody wants it any more"


@pytest.mark.parametrize(
    ("name", "owner"), [("shop/web", "Service"), ("shop/web:local-redirect", "CiliumLocalRedirectPolicy")]
)
def test_a_redirect_that_failed_is_told_of_an_object_that_exists(world: World, name: str, owner: str) -> None:
    """A redirect of a Service bears the Service's name, one of an address its policy's."""
    row = msgspec.structs.replace(frontend(kind="LocalRedirect"), service=name)
    world.put("frontends", row)
    (found,) = world.put("services-status", failed(row))
    assert found.startswith(f"{owner} shop/web: ")


def test_a_failure_is_its_owners(world: World) -> None:
    row = frontend(kind="HostPort")
    world.put("frontends", row)
    (found,) = world.put("services-status", failed(row))
    assert found.startswith("Pod shop/web: ")


def test_what_is_no_failure_is_no_problem(world: World) -> None:
    row = frontend()
    world.put("frontends", row)
    assert world.put("services-status", RowStatus(row.key, Kind.PENDING, 1)) == []
    world.drop("frontends", row.key)
    assert world.put("services-status", failed(row)) == [], "a row that is not wanted any more"


# ---------------------------------------------------------------------------------------------- events


class API:
    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.down = False

    async def create_event(self, namespace: str, body: Mapping[str, Any]) -> None:
        if self.down:
            raise OSError("no answer")
        self.events.append((namespace, body))


@pytest.fixture
def api() -> API:
    return API()


@pytest.fixture
def told(api: API) -> ProblemEvents:
    return ProblemEvents(writes=api, node="n1", uid=lambda kind, name: f"{kind} {name}", now=lambda: NOW)


async def test_a_problem_is_told_once_for_each_change(api: API, told: ProblemEvents) -> None:
    assert await told.update([CONFLICT]) == {}
    assert await told.update([CONFLICT]) == {}, "as a refresh has it"
    assert len(api.events) == 1
    changed = Problem("Service", "shop", "web", CONFLICT.field, "belongs to shop/other", Reason.CONFLICT)
    await told.update([changed])
    assert [body["message"] for _, body in api.events] == [
        "192.0.2.1 80/TCP: belongs to shop/old",
        "192.0.2.1 80/TCP: belongs to shop/other",
    ]
    await told.delete([changed])
    await told.update([changed])
    assert len(api.events) == 3


async def test_what_could_not_be_told_is_told_later(api: API, told: ProblemEvents) -> None:
    api.down = True
    assert set(await told.update([CONFLICT]) or {}) == {CONFLICT.key}
    api.down = False
    assert await told.update([CONFLICT]) == {}
    assert len(api.events) == 1


def test_an_event() -> None:
    assert event(CONFLICT, uid="u-1", node="n1", now=NOW) == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": event(CONFLICT, uid="u-1", node="n2", now=NOW)["metadata"]["name"], "namespace": "shop"},
        "involvedObject": {"kind": "Service", "apiVersion": "v1", "namespace": "shop", "name": "web", "uid": "u-1"},
        "type": "Warning",
        "reason": "ServiceConflict",
        "message": "192.0.2.1 80/TCP: belongs to shop/old",
        "source": {"component": "cilium-agent", "host": "n1"},
        "reportingComponent": "cilium-agent",
        "reportingInstance": "n1",
        "firstTimestamp": "2026-01-02T03:04:05Z",
        "lastTimestamp": "2026-01-02T03:04:05Z",
        "count": 1,
    }


def test_events_have_names_that_the_api_takes() -> None:
    """One for each problem of each object; another object of the same name has others."""
    long = Problem("Pod", "shop", "x" * 253, "spec", "y" * 2000)
    found = event(long, uid="", node="n1", now=NOW)
    assert len(found["metadata"]["name"]) <= 253
    assert len(found["message"]) == LONGEST
    for cut in ("-", "."):
        problem = Problem("CiliumClusterwideNetworkPolicy", "", "x" * 199 + cut + "y" * 50, "spec", "does not fit")
        assert event(problem, uid="", node="n1", now=NOW)["metadata"]["name"].startswith("x" * 199 + ".")
    assert "uid" not in found["involvedObject"]
    names = {event(CONFLICT, uid=uid, node="n1", now=NOW)["metadata"]["name"] for uid in ("a", "b", "a")}
    assert len(names) == 2
    assert all(name.startswith("web.") for name in names)


def test_a_problem_names_its_object() -> None:
    about_all = Problem("CiliumClusterwideNetworkPolicy", "", "nodes", "spec", "does not fit")
    assert str(about_all) == "CiliumClusterwideNetworkPolicy nodes: spec: does not fit"
    assert str(CONFLICT).startswith("Service shop/web: ")
