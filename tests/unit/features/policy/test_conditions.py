"""What users of `kubectl get cnp` see of their policies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from unit.features.derived import Derived

from cilium.features.policy.conditions import WELL, ConditionOps, PolicyCondition, conditions
from cilium.tables.kubernetes import CiliumNode
from cilium.tables.rules import NodeReport, PolicyObject, PolicyReport

FINE = NodeReport(revision=2, enforcing=True, ok=True)


class Writes:
    def __init__(self) -> None:
        self.said: dict[tuple[str, str, str], Any] = {}
        self.nodes: set[str] = set()

    async def node_exists(self, name: str) -> bool:
        return name in self.nodes

    async def patch_policy_status(self, kind: str, namespace: str, name: str, body: Mapping[str, Any]) -> None:
        if name == "refused":
            raise OSError("the API server is away")
        self.said[kind, namespace, name] = body["status"]


@pytest.fixture
async def derived() -> Derived:
    made = Derived(
        inputs={"policies": lambda row: row.key, "cilium-nodes": lambda row: row.name},
        outputs={"policy-conditions": lambda row: row.key},
        compute=conditions,
    )
    made.put("cilium-nodes", CiliumNode("n1", {}), CiliumNode("n2", {}))
    return made


def policy(
    kind: str = "CiliumNetworkPolicy", error: str = "", generation: int = 2, report: PolicyReport | None = None
) -> PolicyObject:
    return PolicyObject(kind, "shop", "web", "u", generation, (), error=error, report=report)


def unwritten(derived: Derived) -> PolicyCondition | None:
    return next(iter(derived.rows("policy-conditions").values()), None)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (policy(), (True, WELL)),
        (policy(error="spec.ingress[0]: no"), (False, "spec.ingress[0]: no; nothing is enforced")),
        (policy(kind="CiliumClusterwideNetworkPolicy"), (True, WELL)),
        (policy(kind="ClusterNetworkPolicy"), (True, WELL)),
        (policy(kind="NetworkPolicy"), None),  # Kubernetes' own objects have no such status
    ],
)
async def test_conditions_of_objects(derived: Derived, row: PolicyObject, expected: tuple[bool, str] | None) -> None:
    derived.put("policies", row)
    found = unwritten(derived)
    assert (None if found is None else (found.valid, found.message)) == expected
    derived.drop("policies", row.key)
    assert unwritten(derived) is None


async def test_what_is_said_already_is_not_written_and_its_time_stays(derived: Derived) -> None:
    report = PolicyReport("True", WELL, "2026-01-01T00:00:00Z", "2/2", {"n1": FINE, "n2": FINE})
    derived.put("policies", policy(report=report))
    assert unwritten(derived) is None
    derived.put("policies", policy(report=msgspec.structs.replace(report, nodes={"n1": FINE})))
    found = unwritten(derived)
    assert found is not None
    assert (found.applied, found.since) == ("1/1", "2026-01-01T00:00:00Z")


async def test_nodes_count_when_they_enforce_the_present_generation(derived: Derived) -> None:
    late, full = NodeReport(1, True, True), NodeReport(2, True, False, "map is full")
    derived.put("policies", policy(report=PolicyReport("True", WELL, "t", "", {"n1": late, "n2": full})))
    found = unwritten(derived)
    assert found is not None
    assert (found.applied, found.gone) == ("0/2", ())


async def test_an_invalid_update_names_the_generation_that_nodes_enforce(derived: Derived) -> None:
    kept = NodeReport(1, True, False, "spec: no")
    derived.put("policies", policy(error="spec: no", report=PolicyReport("True", WELL, "t", "1/1", {"n1": kept})))
    found = unwritten(derived)
    assert found is not None
    assert found.message == "spec: no; generation 1, the last valid one, stays enforced"
    assert (found.since, found.applied) == ("", "0/1")


async def test_an_object_of_which_nodes_know_no_valid_generation(derived: Derived) -> None:
    closed = NodeReport(0, True, False, "spec: no")
    report = PolicyReport("True", WELL, "t", "1/1", {"n1": closed, "n2": NodeReport(1, True, False, "spec: no")})
    for generation in (1, 3):
        derived.put("policies", policy(error="spec: no", generation=generation, report=report))
        found = unwritten(derived)
        assert found is not None
        assert found.message == "spec: no; nodes that know no valid generation of it close whom it selects"


async def test_nobody_speaks_for_a_node_that_is_gone(derived: Derived) -> None:
    report = PolicyReport("True", WELL, "t", "2/2", {"n1": FINE, "n2": FINE})
    derived.put("policies", policy(report=report))
    derived.drop("cilium-nodes", "n2")
    found = unwritten(derived)
    assert found is not None
    assert (found.gone, found.applied) == (("n2",), "1/1")


async def test_what_is_written() -> None:
    writes = Writes()
    operations = ConditionOps(writes, now=lambda: datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC))
    rows = [
        PolicyCondition("CiliumNetworkPolicy", "shop", "refused", True, "well"),
        PolicyCondition("CiliumNetworkPolicy", "shop", "web", False, "spec: no", applied="1/2", gone=("n3",)),
    ]
    assert set(await operations.update(rows)) == {"CiliumNetworkPolicy/shop/refused"}
    condition = {
        "type": "Valid",
        "status": "False",
        "lastTransitionTime": "2026-11-23T01:02:03Z",
        "reason": "PolicyInvalid",
        "message": "spec: no",
    }
    assert writes.said == {
        ("CiliumNetworkPolicy", "shop", "web"): {"conditions": [condition], "applied": "1/2", "nodes": {"n3": None}}
    }


async def test_a_node_that_the_operator_has_not_heard_of_yet_keeps_its_word() -> None:
    """The watch of policies may be ahead of that of nodes, and nodes do not repeat themselves."""
    writes = Writes()
    writes.nodes = {"new"}
    row = PolicyCondition("CiliumNetworkPolicy", "shop", "web", True, WELL, gone=("new", "old"))
    await ConditionOps(writes).update([row])
    assert writes.said["CiliumNetworkPolicy", "shop", "web"]["nodes"] == {"old": None}
