"""The whole engine on fake maps: from tables to maps, endpoints after maps, restart without a tear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import msgspec
import numpy as np

from cilium.datapath.fakes import FakeMap
from cilium.datapath.generated import ENDPOINT, ENDPOINT_KEY
from cilium.features.policy import reporting
from cilium.features.policy.cell import PolicyCell, build
from cilium.sources.kubernetes.policies import decode_cnp, merge_generation
from cilium.state import Table
from cilium.state.status import Kind
from cilium.tables.endpoints import EndpointIdentity
from cilium.tables.identities import IdentityRow
from cilium.tables.rules import PolicyObject
from cilium.tables.types import EndpointId, Identity

WEB = ("k8s:app=web", "k8s:io.cilium.k8s.policy.cluster=default", "k8s:io.kubernetes.pod.namespace=shop")
API = ("k8s:app=api", *WEB[1:])


class Epoch:
    def advance(self) -> None:
        """Nobody counts here."""


class Events:
    """Nobody reads them here."""

    def update(self, rows: Any) -> None: ...
    def delete(self, rows: Any) -> None: ...
    def prune(self, rows: Any) -> None: ...


def policy(name: str = "p", app: str = "web", **sections: Any) -> PolicyObject:
    spec = {"endpointSelector": {"matchLabels": {"app": app}}, **sections}
    raw = {"metadata": {"name": name, "namespace": "shop", "uid": "u"}, "spec": spec}
    return decode_cnp(msgspec.json.encode(raw))


FROM_API = {"ingress": [{"fromEndpoints": [{"matchLabels": {"app": "api"}}]}]}


class Agent:
    """One life of the engine; the maps are the kernel's and stay."""

    def __init__(self, maps: dict[str, FakeMap]) -> None:
        self.inputs: dict[str, Table[Any, Any]] = {
            "policies": Table("policies", key=lambda row: row.key),
            "identities": Table("identities", key=lambda row: row.id),
            "endpoint_identities": Table("endpoint-identities", key=lambda row: row.endpoint),
            "cilium_endpoints": Table("cilium-endpoints", key=lambda row: row.key),
        }
        self.write = {name: table.writer("test") for name, table in self.inputs.items()}
        self.engine: PolicyCell = build(**self.inputs, **maps, epoch=Epoch())
        self.reports = reporting.build(
            policy=self.engine,
            endpoint_identities=self.inputs["endpoint_identities"],
            node="n1",
            writes=None,
            events=Events(),
        )

    def fill(self, *policies: PolicyObject) -> None:
        self.write["identities"].commit(
            [IdentityRow(Identity(300), WEB, "cluster"), IdentityRow(Identity(301), API, "cluster")]
        )
        self.write["endpoint_identities"].commit([EndpointIdentity(EndpointId(1), Identity(300), WEB)])
        self.write["policies"].commit(policies)

    def ready(self) -> None:
        for writer in self.write.values():
            writer.ready()


@asynccontextmanager
async def running(agent: Agent) -> AsyncIterator[PolicyCell]:
    async with asyncio.TaskGroup() as tasks:
        before = asyncio.all_tasks()
        agent.engine.cell.start(tasks)
        agent.reports.cell.start(tasks)
        try:
            yield agent.engine
        finally:
            for task in asyncio.all_tasks() - before:
                task.cancel()


async def until(condition: Callable[[], bool], table: Table[Any, Any]) -> None:
    changes = table.changes()
    async with asyncio.timeout(5):
        while not condition():
            changes.pop()
            await changes.wait()


def kernel() -> dict[str, FakeMap]:
    return {
        "entries": FakeMap("cilium_policy"),
        "classes": FakeMap("cilium_policy_class"),
        "endpoints": FakeMap("cilium_lxc"),
        "counters": FakeMap("cilium_policy_counters"),
    }


def content(maps: dict[str, FakeMap]) -> dict[str, set[bytes]]:
    return {
        name: {key.tobytes() + value.tobytes() for key, value in zip(*maps[name].dump(), strict=True)} for name in maps
    }


async def test_an_endpoint_gets_its_policy_when_the_maps_have_it() -> None:
    maps = kernel()
    agent = Agent(maps)
    agent.fill(policy(**FROM_API))
    agent.ready()
    async with running(agent) as engine:
        await engine.endpoint_policies.wait_initialized()
        row = engine.endpoint_policies.snapshot()[EndpointId(1)]
        assert row.ingress
        assert row.egress == 0
        keys, _ = maps["entries"].dump()
        assert keys.tolist() == [(row.ingress, 301)]
        (status,) = engine.status.snapshot()
        assert (status.key, status.valid, status.error) == ("CiliumNetworkPolicy/shop/p", True, "")
        assert status.revision == row.revision


async def test_nothing_is_touched_until_every_source_has_told_everything() -> None:
    maps = kernel()
    first = Agent(maps)
    first.fill(policy(**FROM_API), policy("q", ingress=[{"fromEntities": ["world"]}]))
    first.ready()
    async with running(first) as engine:
        await engine.endpoint_policies.wait_initialized()
    before = content(maps)
    second = Agent(maps)
    second.fill(policy(**FROM_API))
    async with running(second) as engine:
        await until(lambda: len(engine.policy_map) > 0, engine.policy_map)
        await asyncio.wait([asyncio.create_task(asyncio.sleep(0)) for _ in range(20)])
        assert content(maps) == before
        assert not len(engine.endpoint_policies)
        second.write["policies"].upsert(policy("q", ingress=[{"fromEntities": ["world"]}]))
        second.ready()
        await engine.endpoint_policies.wait_initialized()
        assert content(maps) == before


async def test_an_invalid_update_keeps_what_was_enforced_and_says_what_is_wrong() -> None:
    maps = kernel()
    agent = Agent(maps)
    good = policy(**FROM_API)
    agent.fill(good)
    agent.ready()
    async with running(agent) as engine:
        await engine.endpoint_policies.wait_initialized()
        before = content(maps)
        agent.write["policies"].upsert(merge_generation(good, policy(ingress=[{"fromEntities": ["nobody"]}])))
        await until(lambda: any(row.error for row in engine.status.snapshot()), engine.status)
        assert content(maps) == before
        agent.write["policies"].delete(good.key)
        await until(lambda: not len(engine.status), engine.status)
        assert engine.endpoint_policies.snapshot()[EndpointId(1)].ingress == 0


async def test_cidrs_get_identities_with_the_labels_of_what_is_around_them() -> None:
    agent = Agent(kernel())
    agent.fill(policy(ingress=[{"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}]}]))
    agent.ready()
    async with running(agent) as engine:
        await engine.cidr_identities.wait_initialized()
        rows = engine.cidr_identities.snapshot()
        inner = rows[ip_network("10.1.0.0/16")]
        assert inner.labels == ("cidr:10.0.0.0/8", "cidr:10.1.0.0/16", "reserved:world-ipv4")
        assert inner.identity >> 24 == 1
        agent.write["policies"].delete("CiliumNetworkPolicy/shop/p")
        await until(lambda: not len(engine.cidr_identities), engine.cidr_identities)


async def test_the_node_itself_and_endpoints_without_rules_are_not_enforced() -> None:
    agent = Agent(kernel())
    agent.fill()
    agent.write["endpoint_identities"].upsert(EndpointIdentity(EndpointId(2), Identity(1), ("reserved:host",)))
    agent.ready()
    async with running(agent) as engine:
        await engine.endpoint_policies.wait_initialized()
        rows = engine.endpoint_policies.snapshot()
        assert {(row.endpoint, row.ingress, row.egress) for row in rows} == {(1, 0, 0), (2, 0, 0)}


async def test_a_full_map_keeps_old_verdicts_is_told_and_heals_by_itself() -> None:
    maps = kernel()
    agent = Agent(maps)
    agent.fill(policy(**FROM_API))
    agent.write["endpoint_identities"].upsert(EndpointIdentity(EndpointId(2), Identity(301), API))
    agent.ready()
    async with running(agent) as engine:
        await engine.endpoint_policies.wait_initialized()
        before = engine.endpoint_policies.snapshot()[EndpointId(1)].ingress
        key, value = np.zeros(1, ENDPOINT_KEY), np.zeros(1, ENDPOINT)
        value["ingress_policy"], value["id"] = before, 1
        maps["endpoints"].update(key, value)
        maps["entries"].capacity = len(maps["entries"])
        # One more rule is another policy: there is no room for it, nor for the first one of another endpoint.
        agent.write["policies"].commit(
            [
                policy("full", ingress=[{"fromEndpoints": [{"matchLabels": {"app": "web"}}]}]),
                policy("new", app="api", **FROM_API),
            ]
        )
        await until(lambda: len(agent.reports.problems) > 1, agent.reports.problems)
        await until(lambda: bool(engine.endpoint_policies.snapshot()[EndpointId(2)].ingress), engine.endpoint_policies)
        assert {problem.name for problem in agent.reports.problems.snapshot()} >= {"full", "new"}
        assert engine.endpoint_policies.snapshot()[EndpointId(1)].ingress == before
        assert [int(number) for number in maps["entries"].dump()[0]["policy"]] == [before]
    second = Agent(maps)
    second.fill(policy(**FROM_API), policy("full", ingress=[{"fromEndpoints": [{"matchLabels": {"app": "web"}}]}]))
    second.ready()
    async with running(second) as engine:
        await engine.endpoint_policies.wait_initialized()
        assert engine.endpoint_policies.snapshot()[EndpointId(1)].ingress == before  # the next agent keeps it, too
        agent = second
        maps["entries"].capacity = 100
        await until(lambda: not len(agent.reports.problems), agent.reports.problems)
        await until(
            lambda: engine.endpoint_policies.snapshot()[EndpointId(1)].ingress != before, engine.endpoint_policies
        )


async def test_an_identity_of_a_cidr_is_given_to_nobody_before_the_maps_know_it() -> None:
    maps = kernel()
    agent = Agent(maps)
    agent.fill(policy(egress=[{"toEntities": ["all"]}], egressDeny=[{"toCIDR": ["10.0.0.0/8"]}]))
    agent.ready()
    narrow = Identity(1 << 24 | 5)
    async with running(agent) as engine:
        await engine.endpoint_policies.wait_initialized()
        denied = engine.endpoint_policies.snapshot()[EndpointId(1)].egress
        judged = engine.judged_identities.changes()
        judged.pop()
        agent.write["identities"].upsert(IdentityRow(narrow, ("cidr:10.0.0.0/8", "cidr:10.1.0.0/16"), "cidr"))
        while narrow not in engine.judged_identities.snapshot():
            await asyncio.wait_for(judged.wait(), 5)
            judged.pop()
        assert (denied, narrow) in maps["entries"].dump()[0].tolist()
        agent.write["identities"].delete(narrow)
        while narrow in engine.judged_identities.snapshot():
            await asyncio.wait_for(judged.wait(), 5)
            judged.pop()
        assert (denied, narrow) in maps["entries"].dump()[0].tolist(), "withdrawn first, forgotten then"
        await until(lambda: (denied, narrow) not in maps["entries"].dump()[0].tolist(), engine.map_status)
        maps["entries"].capacity = len(maps["entries"])
        agent.write["identities"].upsert(IdentityRow(narrow, ("cidr:10.0.0.0/8", "cidr:10.1.0.0/16"), "cidr"))
        await until(lambda: any(row.kind is Kind.ERROR for row in engine.map_status.snapshot()), engine.map_status)
        assert narrow not in engine.judged_identities.snapshot(), "there is no room for what denies it"
        maps["entries"].capacity = 100
        await until(lambda: narrow in engine.judged_identities.snapshot(), engine.judged_identities)
        assert (denied, narrow) in maps["entries"].dump()[0].tolist()
