"""Whose traffic is judged: endpoints with the same identity and named ports are one subject, with two sides.

In: rule sets that select the subject. Out: per side whether policy is enforced, and the atoms that speak. Sides for
which the same rules speak share a policy.
"""

from __future__ import annotations

from array import array

from pyroaring import BitMap

from cilium.features.policy.repository import Repository, RuleSet
from cilium.tables.identities import Reserved
from cilium.tables.kubernetes import NamedPort
from cilium.tables.types import ClassId, EndpointId, Identity, Labels, PolicyId

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}

SubjectKey = tuple[Identity, tuple[NamedPort, ...]]


class Policy:
    """One direction of the policy of some subjects, and what was made of it."""

    def __init__(self, number: PolicyId, name: bytes) -> None:
        self.number = number
        self.name = name
        self.users = 0
        """Sides that have it."""
        self.always = BitMap()
        """Atoms that are about every peer, as last built."""
        self.specific = BitMap()
        """Atoms that are about some peers, as last built."""
        self.rest = ClassId(0)
        """The class of everyone who is in no group: that of identity 0."""
        self.groups: dict[ClassId, BitMap] = {}
        """Identities by class; 0 is everyone who is in none."""


class Side:
    """One direction of one subject."""

    def __init__(self, direction: str, *, forced: bool, facts: BitMap | None) -> None:
        self.direction = direction
        self.forced = forced
        """Default deny even without a rule."""
        self.facts = facts
        """Ingress: what named ports mean at the subject itself. None for egress: every peer has its own."""
        self.rules = BitMap()
        """Atoms of all rules that select the subject."""
        self.default_deny = 0
        """Rule sets that ask for it."""
        self.audited_default_deny = 0
        """Rule sets in audit mode that ask for it."""
        self.policy: Policy | None = None

    @property
    def closed(self) -> bool:
        """Policies deny what no rule of theirs lets through. Where none does, tier BASELINE is asked, too."""
        return self.default_deny > 0

    def join(self, atoms: BitMap, *, default_deny: bool, audit: bool, weight: int) -> None:
        """A rule set begins (weight 1) or ceases (-1) to select the subject."""
        if audit:
            self.audited_default_deny += weight * default_deny
        else:
            self.default_deny += weight * default_deny
        if atoms:
            self.rules = self.rules | atoms if weight > 0 else self.rules - atoms

    def _ending(self) -> str:
        """What becomes of traffic about which no rule says anything."""
        if self.closed:
            return "closed"
        return ("audited " if self.audited_default_deny else "") + ("forced" if self.forced else "open")

    def name(self, repository: Repository) -> bytes | None:
        """What tells the policy from others, whatever its rules say at the moment; None: not enforced.

        Without default deny and without a rule that denies everything passes, as it does without a policy.
        """
        ending = self._ending()
        if ending == "open" and self.rules.isdisjoint(repository.denials):
            return None
        cookies = array("I", sorted(repository.atom(number).cookie for number in self.rules))
        parts = [self.direction, ending, cookies.tobytes().hex()]
        if self.facts and not self.rules.isdisjoint(repository.named):
            parts += sorted(str(repository.atom(number).fact) for number in self.facts)
        return "/".join(parts).encode()

    def atoms(self, repository: Repository) -> tuple[BitMap, BitMap]:
        """(atoms about every peer, atoms about some), of the rules as they are now."""
        rules = self.rules - repository.baseline if self.closed else self.rules
        always = rules & repository.wildcards
        specific = rules - always
        if not (self.closed or self.forced):
            always.add(repository.allow_all)
        if self.audited_default_deny and not self.closed:
            always.add(repository.audited_default_deny)
        named = rules & repository.named
        if named and self.facts is not None:
            always |= self.facts
        elif named:
            for number in named:
                for name in repository.atom(number).names:
                    specific |= repository.facts.get(name, BitMap())
        return always, specific


class Subject:
    """`number` names it in the cache of subject selectors. `node`: it is the node itself."""

    def __init__(self, number: int, key: SubjectKey, *, forced: bool, facts: BitMap, node: bool = False) -> None:
        self.number = number
        self.key = key
        self.node = node
        self.ingress = Side("ingress", forced=forced, facts=facts)
        self.egress = Side("egress", forced=forced, facts=None)
        self.endpoints: set[EndpointId] = set()

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.ingress, self.egress

    def join(self, rule_set: RuleSet, weight: int) -> None:
        """Rules about pods never mean the node, whatever they select; rules about nodes mean nobody else."""
        rule = rule_set.rule
        if rule.node_subject is not self.node:
            return
        audit = rule_set.audit
        self.ingress.join(rule_set.ingress, default_deny=rule.default_deny_ingress, audit=audit, weight=weight)
        self.egress.join(rule_set.egress, default_deny=rule.default_deny_egress, audit=audit, weight=weight)


def is_init(labels: Labels) -> bool:
    """Endpoints whose labels are not known yet are closed."""
    return Reserved.INIT.label in labels
