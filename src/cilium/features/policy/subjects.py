"""Whose traffic is judged: endpoints with the same identity and named ports share a subject, and its two policies.

In: rule sets that select the subject. Out: per direction whether policy is enforced, and the atoms that speak.
"""

from __future__ import annotations

from pyroaring import BitMap

from cilium.features.policy.repository import Repository, RuleSet
from cilium.tables.identities import Reserved
from cilium.tables.kubernetes import NamedPort
from cilium.tables.types import ClassId, EndpointId, Identity, Labels, PolicyId

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}

SubjectKey = tuple[Identity, tuple[NamedPort, ...]]


class Policy:
    """One direction of one subject: the rules that apply and the entries that were made of them."""

    def __init__(self, number: PolicyId, *, forced: bool, facts: BitMap | None) -> None:
        self.number = number
        self.forced = forced
        """Default deny even without a rule."""
        self.facts = facts
        """Ingress: what named ports mean at the subject itself. None for egress: every peer has its own."""
        self.rules = BitMap()
        """Atoms of all rules that select the subject."""
        self.rule_sets = 0
        self.default_deny = 0
        self.enforced = False
        self.always = BitMap()
        """Atoms that are about every peer, as last built."""
        self.specific = BitMap()
        """Atoms that are about some peers, as last built."""
        self.rest = ClassId(0)
        """The class of everyone without an entry: what identity 0 has."""
        self.entries: dict[int, ClassId] = {}
        """By identity; 0 is everyone without an entry."""

    def join(self, atoms: BitMap, *, default_deny: bool, weight: int) -> None:
        """A rule set begins (weight 1) or ceases (-1) to select the subject."""
        if not atoms and not default_deny:
            return
        self.rule_sets += weight
        self.default_deny += weight * default_deny
        self.rules = self.rules | atoms if weight > 0 else self.rules - atoms

    def wanted(self, repository: Repository) -> tuple[bool, BitMap, BitMap]:
        """(enforced, atoms about every peer, atoms about some), of the rules as they are now."""
        denies = not self.rules.isdisjoint(repository.denials)
        enforced = self.forced or self.default_deny > 0 or denies
        if not enforced:
            return False, BitMap(), BitMap()
        always = self.rules & repository.wildcards
        specific = self.rules - always
        if not self.forced and not self.default_deny:
            always.add(repository.allow_all)
        named = self.rules & repository.named
        if named and self.facts is not None:
            always |= self.facts
        elif named:
            for number in named:
                for name in repository.atom(number).names:
                    specific |= repository.facts.get(name, BitMap())
        return True, always, specific


class Subject:
    """`number` names it in the cache of subject selectors."""

    def __init__(self, number: int, key: SubjectKey, labels: Labels, *, ingress: Policy, egress: Policy) -> None:
        self.number = number
        self.key = key
        self.labels = labels
        self.ingress = ingress
        self.egress = egress
        self.endpoints: set[EndpointId] = set()

    def join(self, rule_set: RuleSet, weight: int) -> None:
        rule = rule_set.rule
        self.ingress.join(rule_set.ingress, default_deny=rule.default_deny_ingress, weight=weight)
        self.egress.join(rule_set.egress, default_deny=rule.default_deny_egress, weight=weight)


def is_init(labels: Labels) -> bool:
    """Endpoints whose labels are not known yet are closed."""
    return Reserved.INIT.label in labels
