"""What other objects than its peers make of a policy: audit mode of its namespace, another with its priority.

In: `policies`, `namespaces`. Out: policies with `audit` and `warnings` as they are because of these, and which policies
a change concerns.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

import msgspec

from cilium.state import View
from cilium.tables.audit import audited
from cilium.tables.rules import PolicyObject, Tier

K = TypeVar("K", bound=Hashable)
Rank = tuple[Tier, int]
"""Of ordered tiers: tier and priority."""


class Surroundings:
    """`take` first, then `complete`."""

    def __init__(self) -> None:
        self._audits: dict[str, tuple[bool, str]] = {}
        """Of namespaces whose annotations say something: audit mode, warning."""
        self._of_namespace: dict[str, set[str]] = {}
        self._of_rank: dict[Rank, set[str]] = {}

    def take(self, view: View) -> set[str]:
        """Keys of the policies that are to be completed anew."""
        concerned: set[str] = set()
        for change in view.changes.get("namespaces", ()):
            before = self._audits.pop(change.key, None)
            if change.new is not None:
                after = audited(change.new.annotations, place=f"namespace {change.key}: metadata")
                if any(after):
                    self._audits[change.key] = after
            if self._audits.get(change.key) != before:
                concerned |= self._of_namespace.get(change.key, set())
        for change in view.changes["policies"]:
            concerned.add(change.key)
            for policy, present in ((change.old, False), (change.new, True)):
                if policy is not None:
                    concerned |= self._index(policy, present=present)
        return concerned

    def complete(self, policy: PolicyObject) -> PolicyObject:
        """Clusterwide policies are of no namespace: nobody but their author weakens them."""
        audit, warning = self._audits.get(policy.namespace, (False, "")) if policy.namespace else (False, "")
        warnings = [*policy.warnings, *([warning] if warning else []), *self._rivals(policy)]
        return msgspec.structs.replace(policy, audit=policy.audit or audit, warnings=tuple(warnings))

    def _index(self, policy: PolicyObject, *, present: bool) -> set[str]:
        """Returns those who share a rank with the policy."""
        concerned: set[str] = set()
        for rank in ranks(policy):
            concerned |= _enter(self._of_rank, rank, policy.key, present=present)
        if policy.namespace:
            _enter(self._of_namespace, policy.namespace, policy.key, present=present)
        return concerned

    def _rivals(self, policy: PolicyObject) -> Iterable[str]:
        for tier, priority in sorted(ranks(policy)):
            others = sorted(key.rpartition("/")[2] for key in self._of_rank[tier, priority] - {policy.key})
            if others:
                names = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
                yield (
                    f"spec.priority: {priority} in tier {tier.name.capitalize()} is also that of {names}; "
                    "where they disagree, Deny is preferred to Pass, and Pass to Accept"
                )


def ranks(policy: PolicyObject) -> set[Rank]:
    return {(rule.tier, rule.priority) for rule in policy.rules if rule.tier is not Tier.NORMAL}


def _enter(index: dict[K, set[str]], key: K, member: str, *, present: bool) -> set[str]:
    """Adds or removes a member; returns who is there now."""
    members = index.setdefault(key, set())
    if present:
        members.add(member)
    else:
        members.discard(member)
        if not members:
            del index[key]
    return members
