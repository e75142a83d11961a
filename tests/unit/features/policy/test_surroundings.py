"""Audit mode of namespaces, and objects that share a priority."""

from __future__ import annotations

from typing import Any

import pytest
from unit.features.derived import Derived

from cilium.features.policy.resolve import Resolver
from cilium.tables.audit import ANNOTATION
from cilium.tables.kubernetes import Namespace
from cilium.tables.rules import PolicyObject, Rule, Selector, Tier


@pytest.fixture
async def derived() -> Derived:
    return Derived(
        inputs={"policies": lambda row: row.key, "namespaces": lambda row: row.name},
        outputs={"resolved-policies": lambda row: row.key},
        compute=Resolver().compute,
    )


def policy(kind: str, namespace: str, name: str, **fields: Any) -> PolicyObject:
    return PolicyObject(kind, namespace, name, name, 1, (Rule(Selector()),), **fields)


def ordered(name: str, priority: int, tier: Tier = Tier.ADMIN) -> PolicyObject:
    return PolicyObject("ClusterNetworkPolicy", "", name, name, 1, (Rule(Selector(), tier=tier, priority=priority),))


def namespace(name: str, value: str | None) -> Namespace:
    return Namespace(name, {}, {} if value is None else {ANNOTATION: value})


async def test_a_namespace_puts_its_policies_into_audit_mode_and_no_others(derived: Derived) -> None:
    inside = [policy("NetworkPolicy", "shop", "knp"), policy("CiliumNetworkPolicy", "shop", "cnp")]
    outside = [
        policy("CiliumNetworkPolicy", "bank", "cnp"),
        policy("CiliumClusterwideNetworkPolicy", "", "wide"),
        ordered("admin", 1),
    ]
    for row in (*inside, *outside):
        derived.put("policies", row)

    def audited() -> set[str]:
        return {key for key, row in derived.rows("resolved-policies").items() if row.audit}

    assert audited() == set()
    derived.put("namespaces", namespace("shop", "enabled"))
    derived.put("namespaces", namespace("", "enabled"))
    assert audited() == {row.key for row in inside}
    late = policy("CiliumNetworkPolicy", "shop", "late")
    derived.put("policies", late)
    assert late.key in audited()
    derived.put("namespaces", namespace("shop", None))
    assert audited() == set()
    derived.put("namespaces", namespace("shop", "enabled"))
    derived.drop("policies", late.key)
    derived.drop("namespaces", "shop")
    assert audited() == set()
    assert late.key not in derived.rows("resolved-policies")


async def test_a_namespace_does_not_take_a_policy_out_of_audit_mode(derived: Derived) -> None:
    derived.put("namespaces", namespace("shop", "disabled"))
    derived.put("policies", policy("NetworkPolicy", "shop", "knp", audit=True))
    assert derived.rows("resolved-policies")["NetworkPolicy/shop/knp"].audit


async def test_an_unknown_value_is_a_warning_and_means_enforced(derived: Derived) -> None:
    derived.put("policies", policy("NetworkPolicy", "shop", "knp", warnings=("own",)))
    derived.put("namespaces", namespace("shop", "yes"))
    row = derived.rows("resolved-policies")["NetworkPolicy/shop/knp"]
    assert not row.audit
    assert row.warnings[0] == "own"
    assert "namespace shop: metadata.annotations[policy.cilium.io/audit-mode]: 'yes'" in row.warnings[1]
    derived.put("namespaces", namespace("shop", None))
    assert derived.rows("resolved-policies")["NetworkPolicy/shop/knp"].warnings == ("own",)


async def test_equal_priorities_are_told_at_all_of_them(derived: Derived) -> None:
    def warned() -> dict[str, bool]:
        return {row.name: bool(row.warnings) for row in derived.rows("resolved-policies").values()}

    for row in (ordered("a", 1), ordered("b", 2), ordered("c", 1, Tier.BASELINE)):
        derived.put("policies", row)
    assert not any(warned().values())
    derived.put("policies", ordered("d", 1))
    assert warned() == {"a": True, "b": False, "c": False, "d": True}
    assert (
        "1 in tier Admin is also that of d" in derived.rows("resolved-policies")["ClusterNetworkPolicy//a"].warnings[0]
    )
    derived.put("policies", ordered("d", 2))
    assert warned() == {"a": False, "b": True, "c": False, "d": True}
    derived.drop("policies", "ClusterNetworkPolicy//d")
    assert not any(warned().values())
