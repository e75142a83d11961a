"""What /metrics says of an agent whose tables, maps and reconcilers hold known things."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cilium.app import metrics
from cilium.app.inspection import Inspection
from cilium.app.metric_families import families, unknown
from cilium.app.policy_delay import PolicyDelay
from cilium.app.tables import AgentTables
from cilium.datapath.fakes import FakeMap
from cilium.datapath.generated import DropReason, FlowDirection
from cilium.features.health.rows import NodeHealth
from cilium.features.policy.counters import CounterOps
from cilium.features.policy.rows import PolicyStatus
from cilium.settings import from_values
from cilium.sources.kubernetes.reflector import Health
from cilium.state import Reconciler, Table
from cilium.tables.endpoints import Endpoint
from cilium.tables.rules import PolicyObject, RuleReference
from cilium.tables.types import EndpointId


class Counters:
    """cilium_metrics of two processors: 3 packets forwarded, 2 dropped by policy."""

    spec = type("Spec", (), {"max_entries": 1024})

    def dump(self) -> tuple[Any, Any]:
        record = np.dtype([("packets", "u8"), ("bytes", "u8")])
        values = np.zeros((3, 2), record)
        values["packets"][0], values["bytes"][0] = (1, 2), (100, 200)
        values["packets"][1], values["bytes"][1] = (2, 0), (120, 0)
        keys = [FlowDirection.EGRESS, DropReason.POLICY_DENIED * 4 + FlowDirection.INGRESS, 5]
        return np.array(keys, "u4"), values


class FullMap:
    spec = type("Spec", (), {"max_entries": 4})

    def dump(self) -> tuple[Any, Any]:
        return np.zeros(3, "u4"), np.zeros(3, "u4")


class Untouchable(FullMap):
    def dump(self) -> tuple[Any, Any]:
        raise AssertionError("a map that packets fill is not read")


@pytest.fixture
def agent() -> Inspection:
    made = Inspection(settings=from_values({}), node="n1", version="1.2.3")
    maps: dict[str, Any] = {"cilium_metrics": Counters(), "cilium_lxc": FullMap()}
    maps |= {"cilium_ct": Untouchable(), "cilium_snat": Untouchable()}
    made.maps = maps
    return made


def scrape(
    agent: Inspection, collector: type[metrics.AgentCollector] = metrics.AgentCollector
) -> dict[tuple[str, str], float]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector(agent))
    found = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, ",".join(sorted(map(str, sample.labels.values())))): sample.value
        for family in found
        for sample in family.samples
    }


async def test_an_agent_that_starts_has_metrics_too(agent: Inspection) -> None:
    agent.maps = {}
    assert scrape(agent)["cilium_version", "1.2.3"] == 1


async def test_an_operator_tells_of_itself_and_nothing_of_a_node(agent: Inspection) -> None:
    agent.add_tables(list(AgentTables()))
    found = scrape(agent, metrics.OperatorCollector)
    assert found["cilium_version", "1.2.3"] == 1
    assert found["cilium_statedb_table_objects", "endpoints"] == 0
    assert not {name for name, _ in found} & {
        "cilium_endpoint",
        "cilium_forward_count_total",
        "cilium_bpf_map_pressure",
    }


async def test_packets_and_maps(agent: Inspection) -> None:
    found = scrape(agent)
    assert found["cilium_forward_count_total", "egress"] == 3
    assert found["cilium_forward_bytes_total", "egress"] == 300
    drops = {name: value for name, value in found.items() if name[0] == "cilium_drop_count_total"}
    assert drops == {("cilium_drop_count_total", "Policy denied,ingress"): 2}
    assert found["cilium_bpf_map_pressure", "lxc"] == 0.75


async def test_rules_are_told_when_they_are_chosen(agent: Inspection) -> None:
    port = FakeMap("cilium_policy_counters")
    references: Table[int, RuleReference] = Table("rule-references", key=lambda row: row.cookie)
    references.writer("test").commit([RuleReference(300, "CiliumNetworkPolicy", "shop", "p", "ingress", 1)])
    agent.add_tables([references])
    agent.maps = {**agent.maps, "cilium_policy_counters": port}
    assert not CounterOps(port, cpus=2).update(list(references.snapshot()))
    name = "cilium_policy_rule_packets_total", "0,1,CiliumNetworkPolicy,ingress,p,shop"
    assert name not in scrape(agent)
    agent.settings = from_values({"prometheus": {"metrics": ["+cilium_policy_rule_packets_total", "-cilium_endpoint"]}})
    found = scrape(agent)
    assert found[name] == 0
    assert not {metric for metric, _ in found} & {"cilium_policy_rule_bytes_total", "cilium_endpoint"}
    assert unknown(["+cilium_nonsense", "-cilium_endpoint"]) == ["+cilium_nonsense"]


async def test_tables_and_nodes(agent: Inspection) -> None:
    tables = AgentTables()
    agent.add_tables(list(tables))
    pod = Endpoint(id=EndpointId(1), kind="pod", addresses=(), namespace="d", pod="p")
    tables.endpoints.writer("test").commit(upserts=[pod, Endpoint(id=EndpointId(65535), kind="host", addresses=())])
    health = tables.node_health.writer("test")
    for address, kind in (("192.0.2.2", "host"), ("2001:db8::2", "host"), ("10.0.0.2", "endpoint")):
        health.upsert(NodeHealth("b", ip_address(address), kind, False, 0.1, "", ""))  # type: ignore[arg-type]  # a literal
    health.upsert(NodeHealth("a", ip_address("192.0.2.1"), "host", True, 0.1, "", ""))
    found = scrape(agent)
    assert found["cilium_endpoint", ""] == 2
    assert found["cilium_endpoint_state", "ready"] == found["cilium_endpoint_state", "waiting"] == 1
    assert found["cilium_unreachable_nodes", ""] == found["cilium_unreachable_health_endpoints", ""] == 1
    assert found["cilium_node_health_connectivity_status", "b,host,unreachable"] == 2
    assert found["cilium_statedb_table_objects", "node-health"] == 4


class Refusing:
    """Operations of which updates of odd rows fail."""

    def update(self, rows: Any) -> dict[int, str]:
        return {row: "odd" for row in rows if row % 2}

    def delete(self, rows: Any) -> None: ...
    def prune(self, rows: Any) -> None: ...


async def test_reconcilers_are_observed(agent: Inspection) -> None:
    table: Table[int, int] = Table("numbers", key=lambda row: row)
    reconciler = Reconciler("numbers", table=table, operations=Refusing())
    agent.add_reconcilers(reconciler)
    table.writer("test").commit(upserts=[1, 2, 3])
    await reconciler.round()
    found = scrape(agent)
    assert found["cilium_reconciler_errors_total", "numbers,update"] == 2
    assert found["cilium_reconciler_errors_current", "numbers"] == 2
    assert found["cilium_reconciler_duration_seconds_count", "numbers,update"] == 1
    assert found["cilium_reconciler_rows", "Done,numbers"] == 1
    assert agent.counts.of("numbers").failed == 1


async def test_requests_watches_and_flows(agent: Inspection) -> None:
    agent.counts.cni_request("ADD", 0.03, failed=False)
    agent.counts.cni_request("ADD", 2.0, failed=True)
    agent.reflectors = lambda: [Health("pods", False, True, 3, 1, "7", "gone", 0.0, failures=5)]
    agent.sections["hubble"] = lambda: {"observer": {"seen-flows": 70, "lost-events": 3}}
    found = scrape(agent)
    assert found["cilium_cni_request_duration_seconds_count", "ADD,success"] == 1
    assert found["cilium_cni_request_duration_seconds_sum", "ADD,fail"] == 2.0
    assert found["cilium_k8s_watch_connected", "pods"] == 0
    assert found["cilium_k8s_watch_errors_total", "pods"] == 5
    assert found["cilium_k8s_objects_refused", "pods"] == 1
    assert found["cilium_hubble_flows_seen_total", ""] == 70
    assert found["cilium_hubble_lost_events_total", "ring_buffer"] == 3


async def test_every_metric_is_declared(agent: Inspection) -> None:
    agent.add_tables(list(AgentTables()))
    agent.sections["hubble"] = lambda: {"observer": {"seen-flows": 0, "lost-events": 0}}
    agent.settings = from_values({"prometheus": {"metrics": [f"+{family.name}" for family in families()]}})
    served = {family.name: family.type for family in metrics.AgentCollector(agent).collect()}
    declared = {family.name: family.kind for family in families()}
    assert served == declared


def policy(name: str) -> PolicyObject:
    return PolicyObject("CiliumNetworkPolicy", "ns", name, "", 1, ())


def enforced(name: str, generation: int) -> PolicyStatus:
    return PolicyStatus("CiliumNetworkPolicy", "ns", name, generation, True, "", 1)


class Delays:
    def __init__(self) -> None:
        self.now, self.seen = 0.0, list[float]()
        policies: Table[str, PolicyObject] = Table("policies", key=lambda row: row.key)
        status: Table[str, PolicyStatus] = Table("policy-status", key=lambda row: row.key)
        self.policies, self.status = policies.writer("test"), status.writer("test")
        self.delay = PolicyDelay(
            policies=policies, status=status, observe=self.seen.append, clock=lambda: self.now
        )  # fmt: skip

    def at(self, now: float) -> list[float]:
        self.now = now
        self.delay.step()
        seen, self.seen[:] = list(self.seen), []
        return seen


async def test_the_delay_of_a_policy_runs_from_its_first_change_to_its_enforcement() -> None:
    delays = Delays()
    delays.policies.upsert(policy("a"))
    assert delays.at(10.0) == []
    delays.policies.upsert(PolicyObject("CiliumNetworkPolicy", "ns", "a", "", 2, ()))
    delays.status.upsert(enforced("a", 1))
    assert delays.at(10.5) == [], "this status answers to the version before"
    delays.status.upsert(enforced("a", 2))
    assert delays.at(11.0) == [1.0]


async def test_a_deleted_policy_counts_when_its_status_goes() -> None:
    delays = Delays()
    delays.policies.upsert(policy("a"))
    delays.status.upsert(enforced("a", 1))
    delays.at(1.0)
    delays.policies.delete(policy("a").key)
    assert delays.at(2.0) == []
    delays.status.delete(policy("a").key)
    assert delays.at(2.25) == [0.25]


async def test_a_policy_that_was_gone_before_it_was_enforced_is_forgotten() -> None:
    """The engine never saw it, and will not answer; one of its name that comes later is another."""
    delays = Delays()
    delays.policies.upsert(policy("a"))
    delays.at(1.0)
    delays.policies.delete(policy("a").key)
    assert delays.at(2.0) == []
    delays.policies.upsert(policy("a"))
    delays.at(100.0)
    delays.status.upsert(enforced("a", 1))
    assert delays.at(100.5) == [0.5]


def test_reasons_are_named_as_in_flows() -> None:
    assert metrics.reason_name(DropReason.POLICY_DENY) == "Policy denied by denylist"
    assert metrics.reason_name(DropReason.INVALID_SOURCE_IP) == "Invalid source IP"
    assert metrics.reason_name(1) == "reason 1"
