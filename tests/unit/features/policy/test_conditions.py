"""What users of `kubectl get cnp` see of their policies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from unit.features.derived import Derived

from cilium.features.policy.conditions import ConditionOps, PolicyCondition, conditions
from cilium.tables.rules import DirectionRule, Peers, PolicyObject, Rule, Selector

UNENFORCED = Rule(Selector(), egress=(DirectionRule(Peers(), unenforced=("spec.egress[0].toFQDNs",)),))


class Writes:
    def __init__(self) -> None:
        self.said: dict[tuple[str, str, str], Any] = {}

    async def patch_policy_status(self, kind: str, namespace: str, name: str, body: Mapping[str, Any]) -> None:
        if name == "refused":
            raise OSError("the API server is away")
        (self.said[kind, namespace, name],) = body["status"]["conditions"]


@pytest.fixture
async def derived() -> Derived:
    return Derived(
        inputs={"policies": lambda row: row.key},
        outputs={"policy-conditions": lambda row: row.key},
        compute=conditions,
    )


def policy(kind: str = "CiliumNetworkPolicy", name: str = "web", error: str = "") -> PolicyObject:
    return PolicyObject(kind, "shop", name, "u", 1, (), error=error)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (policy(), (True, "Policy validation succeeded")),
        (policy(error="spec.ingress[0]: no"), (False, "spec.ingress[0]: no")),
        (policy(kind="CiliumClusterwideNetworkPolicy"), (True, "Policy validation succeeded")),
        (
            PolicyObject("CiliumNetworkPolicy", "shop", "web", "u", 1, (UNENFORCED,), warnings=("spec: mind",)),
            (True, "Policy validation succeeded; spec: mind; not enforced: spec.egress[0].toFQDNs"),
        ),
        (policy(kind="NetworkPolicy"), None),  # Kubernetes' own objects have no such status
    ],
)
async def test_conditions_of_objects(derived: Derived, row: PolicyObject, expected: tuple[bool, str] | None) -> None:
    derived.put("policies", row)
    found = derived.rows("policy-conditions").get(row.key)
    assert (None if found is None else (found.valid, found.message)) == expected
    derived.drop("policies", row.key)
    assert derived.rows("policy-conditions") == {}


async def test_what_is_written() -> None:
    writes = Writes()
    operations = ConditionOps(writes, now=lambda: datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC))
    rows = [
        PolicyCondition("CiliumNetworkPolicy", "shop", "refused", True, "well"),
        PolicyCondition("CiliumNetworkPolicy", "shop", "web", False, "spec: no"),
    ]
    assert set(await operations.update(rows)) == {"CiliumNetworkPolicy/shop/refused"}
    assert writes.said == {
        ("CiliumNetworkPolicy", "shop", "web"): {
            "type": "Valid",
            "status": "False",
            "lastTransitionTime": "2026-11-23T01:02:03Z",
            "message": "spec: no",
        }
    }
