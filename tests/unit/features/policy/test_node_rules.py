"""Rules about nodes: which of them are about this one, and how they join the rest of their object."""

from __future__ import annotations

import msgspec
import pytest
from unit.features.policy.hosts import EVERY, FROM_CIDR, FROM_WORLD, TO_CLUSTER, ccnp

from cilium.features.policy.node_rules import NOTHING, enforced, rules_about
from cilium.features.policy.rows import HostPolicyTrial, HostRules, TrialState
from cilium.tables.labels import kubernetes_labels
from cilium.tables.rules import PolicyObject

PODS = {"endpointSelector": {}} | FROM_WORLD
EDGE = {"nodeSelector": {"matchLabels": {"role": "edge"}}}


def trial(policy: PolicyObject, state: TrialState, tried: HostRules, kept: HostRules) -> HostPolicyTrial:
    return HostPolicyTrial(policy.kind, "", policy.name, policy.generation, state, tried, kept, policy.uid)


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({}, True),
        ({"matchLabels": {"role": "edge"}}, True),
        ({"matchLabels": {"k8s:role": "edge"}}, True),
        ({"matchLabels": {"role": "core"}}, False),
        ({"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "role", "operator": "NotIn", "values": ["edge"]}]}, False),
    ],
)
def test_which_nodes_are_selected(selector: dict[str, object], selected: bool) -> None:
    policy = ccnp("hosts", 1, {"nodeSelector": selector} | FROM_WORLD)
    assert bool(rules_about(policy, kubernetes_labels({"role": "edge", "zone": "a"})).rules) is selected


def test_rules_keep_their_place() -> None:
    policy = ccnp("hosts", 1, PODS, EDGE | FROM_CIDR, EVERY | TO_CLUSTER, PODS)
    about = rules_about(policy, kubernetes_labels({}))
    assert about.rules == (NOTHING, NOTHING, policy.rules[2])
    row = enforced(policy, trial(policy, TrialState.KEPT, about, about))
    assert row is not None
    assert row.rules == (policy.rules[0], NOTHING, policy.rules[2], policy.rules[3])
    assert row.warnings == ()


def test_rules_about_the_node_wait_for_their_trial() -> None:
    policy = ccnp("hosts", 1, PODS, EVERY | TO_CLUSTER)
    row = enforced(policy, None)
    assert row is not None
    assert row.rules == (policy.rules[0], NOTHING)


def test_a_roll_back_is_about_the_node_only() -> None:
    before, after = ccnp("hosts", 1, PODS, EVERY | FROM_WORLD), ccnp("hosts", 2, PODS | TO_CLUSTER, EVERY | FROM_CIDR)
    kept, tried = (rules_about(policy, ()) for policy in (before, after))
    row = enforced(after, trial(after, TrialState.ROLLED_BACK, tried, kept))
    assert row is not None
    assert row.rules == (after.rules[0], before.rules[1])
    (warning,) = row.warnings
    assert warning.startswith("nodeSelector: generation 2 was rolled back")


def test_an_object_that_is_gone_lives_on_while_its_removal_is_rolled_back() -> None:
    policy = ccnp("hosts", 1, PODS, EVERY | FROM_WORLD)
    kept = rules_about(policy, ())
    row = enforced(None, trial(policy, TrialState.ROLLED_BACK, HostRules(), kept))
    assert row is not None
    assert (row.key, row.rules) == (policy.key, (NOTHING, policy.rules[1]))
    assert "its removal" in row.warnings[0]
    assert enforced(None, trial(policy, TrialState.TRYING, HostRules(), kept)) is None
    assert enforced(None, None) is None


def test_audit_mode_goes_back_with_the_rules() -> None:
    policy = ccnp("hosts", 2, EVERY | FROM_WORLD)
    audited = HostRules(policy.rules, audit=True)
    row = enforced(policy, trial(policy, TrialState.ROLLED_BACK, HostRules(policy.rules), audited))
    assert row is not None
    assert row.audit
    assert enforced(policy, trial(policy, TrialState.KEPT, audited, audited), audit=True) == policy
    mixed = ccnp("hosts", 2, EVERY | FROM_WORLD, PODS)
    row = enforced(mixed, trial(mixed, TrialState.ROLLED_BACK, HostRules(policy.rules), audited))
    assert row is not None
    assert (row.audit, row.rules) == (False, (NOTHING, mixed.rules[1])), "its rules about pods stay as strict"
    assert msgspec.structs.replace(row, warnings=()) == msgspec.structs.replace(mixed, rules=row.rules)
