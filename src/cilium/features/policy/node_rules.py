"""Which rules of policies are about this node, and which of them are in force: `resolved-policies` with the node's
rules as the trials have them.

In: `resolved-policies`, `host-policy-trials`. Out: `enforced-policies`, which is compiled. A rule about the node gets
in only by way of its trial; rules about pods pass as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from cilium.features.policy.rows import HostPolicyTrial, HostRules, TrialState
from cilium.state import RowChanges, View
from cilium.tables.matching import selects
from cilium.tables.rules import PolicyObject, Rule, Selector
from cilium.tables.types import Labels

NOTHING = Rule(subject=Selector(), node_subject=True)
"""Holds the place of a rule: selects the node, and says nothing about it."""


def rules_about(policy: PolicyObject, labels: Labels, *, audit: bool = False) -> HostRules:
    """What the object says about a node with these labels. `audit`: nothing at all is dropped on it."""
    found = [rule if rule.node_subject and selects(rule.subject, labels) else NOTHING for rule in policy.rules]
    while found and found[-1] is NOTHING:
        found.pop()
    return HostRules(tuple(found), policy.audit or audit) if found else HostRules()


def enforced(policy: PolicyObject | None, trial: HostPolicyTrial | None, *, audit: bool = False) -> PolicyObject | None:
    """The object as it is in force; None: nothing of it is. `audit`: see rules_about."""
    if trial is None and (policy is None or not any(rule.node_subject for rule in policy.rules)):
        return policy
    on_node = trial.in_force if trial is not None else HostRules()
    if policy is None:
        if not on_node.rules or trial is None:
            return None
        policy = PolicyObject(trial.kind, trial.namespace, trial.name, trial.uid, trial.generation, ())
    if on_node.audit and not (policy.audit or audit) and not all(rule.node_subject for rule in policy.rules):
        on_node = HostRules()  # drops as little, and its rules about pods are not in audit mode
    rules = []
    for position in range(max(len(policy.rules), len(on_node.rules))):
        own = policy.rules[position] if position < len(policy.rules) else NOTHING
        known = on_node.rules[position] if position < len(on_node.rules) else NOTHING
        rules.append(known if own.node_subject else own)
    audited = policy.audit if audit or not on_node.rules else on_node.audit
    warnings = policy.warnings
    if trial is not None and trial.state is TrialState.ROLLED_BACK:
        warnings = (*warnings, rolled_back(trial))
    return msgspec.structs.replace(policy, rules=tuple(rules), audit=audited, warnings=warnings)


def rolled_back(trial: HostPolicyTrial) -> str:
    """What people are told of it."""
    what = f"generation {trial.generation}" if trial.tried.rules else "its removal"
    before = "the rules before it are" if trial.kept.rules else "none of its rules is"
    remedy = (
        "change the object to have it tried again" if trial.tried.rules else "it is tried again with the next change"
    )
    return (
        f"nodeSelector: {what} was rolled back: this node lost its API server with it. On this node {before} enforced; "
        f"{remedy}"
    )


class NodeRules:
    """`compute` is the compute function of one derivation."""

    def __init__(self, *, audit: bool = False) -> None:
        self._audit = audit

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        keys = [change.key for name in ("resolved-policies", "host-policy-trials") for change in view.changes[name]]
        policies, trials = view.snapshots["resolved-policies"], view.snapshots["host-policy-trials"]
        rows = {key: enforced(policies.get(key), trials.get(key), audit=self._audit) for key in dict.fromkeys(keys)}
        return {
            "enforced-policies": RowChanges(
                upserts=[row for row in rows.values() if row is not None],
                deletes=[key for key, row in rows.items() if row is None],
            )
        }
