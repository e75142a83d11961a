"""What a node says of policies: of those that concern it, once, and no more when they do not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from unit.features.derived import Derived
from unit.features.policy.test_cell import API, FROM_API, WEB, policy

from cilium.features.policy.compute import _status
from cilium.features.policy.node_rules import NOTHING
from cilium.features.policy.node_status import NodeStatus, NodeStatusOps, PolicyNodeStatus, Said
from cilium.features.policy.rows import HostPolicyTrial, HostRules, TrialState
from cilium.tables.endpoints import EndpointIdentity
from cilium.tables.problems import Problem, Reason
from cilium.tables.rules import NodeReport, PolicyObject, Rule, Selector
from cilium.tables.types import EndpointId, Identity

KEY = "CiliumNetworkPolicy/shop/p"
FINE = NodeReport(revision=3, enforcing=True, ok=True)


class Node:
    def __init__(self, *, host_firewall: bool = False) -> None:
        self.derived = Derived(
            inputs={
                "policies": lambda row: row.key,
                "policy-status": lambda row: row.key,
                "endpoint-identities": lambda row: row.endpoint,
                "policy-problems": lambda row: row.key,
                "host-policy-trials": lambda row: row.key,
            },
            outputs={"policy-node-status": lambda row: row.key},
            compute=NodeStatus(node=host_firewall).compute,
        )

    def apply(self, row: PolicyObject) -> None:
        self.derived.put("policies", row)
        self.derived.put("policy-status", _status(row, 7, host_firewall=True))

    def pod(self, *labels: str, number: int = 1) -> None:
        self.derived.put("endpoint-identities", EndpointIdentity(EndpointId(number), Identity(300), labels))

    def says(self) -> NodeReport | None:
        row = self.derived.rows("policy-node-status").get(KEY)
        return None if row is None else row.report


def generation(number: int, **changes: Any) -> PolicyObject:
    found: PolicyObject = policy(**FROM_API)
    return msgspec.structs.replace(found, **{"generation": number, "enforced": number, **changes})


async def test_a_node_speaks_of_policies_that_select_an_endpoint_of_it() -> None:
    node = Node()
    node.apply(generation(3))
    assert node.says() is None
    node.pod(*API)
    assert node.says() is None
    node.pod(*WEB, number=2)
    assert node.says() == FINE
    node.pod(*API, number=2)
    assert node.says() is None
    node.pod(*WEB, number=2)
    node.derived.drop("endpoint-identities", EndpointId(2))
    assert node.says() is None
    node.pod(*WEB, number=2)
    node.derived.drop("policies", KEY)
    node.derived.drop("policy-status", KEY)
    assert node.says() is None


@pytest.mark.parametrize("host_firewall", [True, False])
async def test_a_policy_about_nodes_concerns_the_nodes_on_which_it_is_in_force(host_firewall: bool) -> None:
    node = Node(host_firewall=host_firewall)
    rule = Rule(subject=Selector(), default_deny_ingress=True, node_subject=True)
    node.apply(generation(3, rules=(rule,)))
    assert node.says() == (FINE if host_firewall else None)
    node.apply(generation(3, rules=(NOTHING,)))
    assert node.says() is None


async def test_it_says_what_is_wrong_and_what_it_enforces_meanwhile() -> None:
    node = Node()
    node.pod(*WEB)
    node.apply(generation(4, enforced=3, error="spec: no"))
    said = node.says()
    assert said is not None
    assert (said.revision, said.enforcing, said.ok) == (3, True, False)
    assert said.error == "spec: no; generation 3, the last valid one, stays enforced"
    node.apply(generation(5))
    problem = Problem("CiliumNetworkPolicy", "shop", "p", "spec", "the map is full", Reason.INCOMPLETE)
    node.derived.put("policy-problems", problem)
    assert node.says() == NodeReport(5, True, False, "the map is full")
    node.derived.drop("policy-problems", problem.key)
    assert node.says() == NodeReport(5, True, True)


class Api:
    """The status of policies; `refuses` the next writes."""

    def __init__(self, said: dict[str, Said] | None = None) -> None:
        self.said, self.writes, self.refuses = dict(said or {}), list[tuple[str, Any]](), 0

    async def policy_nodes(self, node: str) -> dict[str, Said]:
        return dict(self.said)

    async def patch_policy_status(self, kind: str, namespace: str, name: str, body: Mapping[str, Any]) -> None:
        if self.refuses:
            self.refuses -= 1
            raise OSError("away")
        self.writes.append((f"{kind}/{namespace}/{name}", body["status"]["nodes"]["n1"]))


def row(uid: str = "u", report: NodeReport = FINE) -> PolicyNodeStatus:
    return PolicyNodeStatus("CiliumNetworkPolicy", "shop", "p", uid, report)


def operations(api: Api) -> NodeStatusOps:
    return NodeStatusOps(api, node="n1", now=lambda: datetime(2026, 11, 23, tzinfo=UTC), pause=0)


async def test_nothing_is_written_twice_not_even_by_the_next_agent() -> None:
    api = Api()
    first = operations(api)
    assert not await first.update([row()])
    assert not await first.update([row()])
    expected = {"revision": 3, "enforcing": True, "ok": True, "error": "", "lastUpdated": "2026-11-23T00:00:00Z"}
    assert api.writes == [(KEY, expected)]
    second = operations(Api({KEY: ("u", FINE)}))
    assert not await second.update([row()])
    assert second._writes.writes == []  # type: ignore[attr-defined]  # it is an Api
    assert not await second.update([row(uid="another")])  # deleted and made anew
    assert len(second._writes.writes) == 1  # type: ignore[attr-defined]


async def test_what_an_earlier_life_said_and_no_longer_holds_is_taken_back() -> None:
    api = Api({KEY: ("u", FINE), "CiliumNetworkPolicy/shop/old": ("v", FINE)})
    ops = operations(api)
    await ops.prune([row()])
    assert api.writes == [("CiliumNetworkPolicy/shop/old", None)]
    await ops.delete([row()])
    assert api.writes[1:] == [(KEY, None)]
    await ops.delete([row()])
    assert len(api.writes) == 2


async def test_an_api_server_that_is_away_is_an_error_of_the_row() -> None:
    api = Api()
    ops = operations(api)
    api.refuses = 2
    assert set(await ops.update([row()])) == {KEY}
    with pytest.raises(OSError, match="away"):
        raise (await ops.update([row()]))[KEY]  # type: ignore[misc]  # an exception here
    assert not await ops.update([row()])
    assert len(api.writes) == 1


async def test_a_node_says_that_it_rolled_back_and_that_it_no_more_does() -> None:
    node = Node(host_firewall=True)
    row = generation(3, rules=(NOTHING,))
    node.apply(row)
    tried = HostRules((Rule(subject=Selector(), node_subject=True, default_deny_ingress=True),))
    trial = HostPolicyTrial(row.kind, row.namespace, row.name, 3, TrialState.ROLLED_BACK, tried, HostRules(), row.uid)
    node.derived.put("host-policy-trials", trial)
    said = node.says()
    assert said is not None
    assert not said.ok
    assert said.error.startswith("nodeSelector: generation 3 was rolled back")
    node.derived.put("host-policy-trials", msgspec.structs.replace(trial, state=TrialState.TRYING))
    assert node.says() is None
