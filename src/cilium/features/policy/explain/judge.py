"""The verdict of one direction, by the book: tiers in their order, deny before allow, default deny, audit.

In: policy objects, the subject (on whom policy is enforced), the peer, traffic. Out: `Judgement`, `Explanation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cilium.features.policy.explain.matching import about, carries, subject_terms
from cilium.features.policy.explain.near import near_misses
from cilium.features.policy.explain.rows import (
    Direction,
    Explanation,
    Judgement,
    Party,
    Statement,
    Traffic,
    Verdict,
    title,
)
from cilium.settings import PolicyEnforcement
from cilium.tables.identities import Reserved
from cilium.tables.kubernetes import NamedPort
from cilium.tables.rules import Action, DirectionRule, PolicyObject, Rule, Tier


@dataclass(frozen=True, kw_only=True)
class Mode:
    """The settings that change verdicts."""

    enforcement: PolicyEnforcement = PolicyEnforcement.DEFAULT
    audit: bool = False
    allow_localhost: bool = True
    host_firewall: bool = False
    """Policies with nodeSelector are enforced on nodes."""
    host_audit: bool = False
    """On nodes nothing is dropped."""

    def enforced_on(self, party: Party) -> bool:
        if self.enforcement is PolicyEnforcement.NEVER:
            return False
        return party.endpoint or (self.host_firewall and party.node_labels is not None)

    def audits(self, party: Party) -> bool:
        return self.audit or (self.host_audit and party.node_labels is not None)


@dataclass(frozen=True)
class Standing:
    """The rules that select a subject, one direction."""

    statements: tuple[Statement, ...]
    closed_by: tuple[PolicyObject, ...]
    forced: str
    """Why it is closed without a rule; empty: it is not."""

    def matching(self, peer: Party, traffic: Traffic, named: Sequence[NamedPort]) -> list[Statement]:
        return [
            one
            for one in self.statements
            if about(one.element.peers, peer) and carries(one.element.ports, traffic, named)
        ]


@dataclass(frozen=True)
class Decision:
    verdict: Verdict
    reason: str
    tier: Tier | None = None
    deciding: tuple[Statement, ...] = ()


def explain(
    policies: Sequence[PolicyObject], source: Party, destination: Party, traffic: Traffic, mode: Mode
) -> Explanation:
    """Both directions of one connection."""
    egress, ingress = (
        judge(policies, direction, subject, peer, traffic, mode)
        for direction, subject, peer in (
            (Direction.EGRESS, source, destination),
            (Direction.INGRESS, destination, source),
        )
    )
    return Explanation(source, destination, traffic, egress, ingress)


def judge(
    policies: Sequence[PolicyObject], direction: Direction, subject: Party, peer: Party, traffic: Traffic, mode: Mode
) -> Judgement:
    named = (subject if direction is Direction.INGRESS else peer).named_ports
    if not mode.enforced_on(subject):
        reason = "policy is switched off" if subject.endpoint else f"no policy is enforced on {subject.name}"
        return Judgement(direction, subject, peer, Verdict.ALLOWED, reason, enforced=False)
    stand = standing(policies, direction, subject, mode)
    matching = stand.matching(peer, traffic, named)
    decision = decide(stand, matching, subject, peer, direction, mode)
    near = near_misses(policies, direction, subject, peer, traffic, named, matching)
    return Judgement(
        direction=direction,
        subject=subject,
        peer=peer,
        verdict=decision.verdict,
        reason=decision.reason,
        enforced=bool(stand.statements or stand.closed_by or stand.forced),
        tier=decision.tier,
        deciding=decision.deciding,
        overruled=tuple(one for one in matching if one not in decision.deciding),
        closed_by=stand.closed_by,
        near=near,
    )


def standing(policies: Iterable[PolicyObject], direction: Direction, subject: Party, mode: Mode) -> Standing:
    """Everything that is said about a direction of the subject."""
    statements: list[Statement] = []
    closing: list[PolicyObject] = []
    for policy in policies:
        for spec, rule in enumerate(policy.rules):
            if not concerns(rule, subject):
                continue
            statements += [Statement(policy, spec, rule, element) for element in elements(rule, direction)]
            if closes(rule, direction) and policy not in closing:
                closing.append(policy)
    return Standing(tuple(statements), tuple(closing), _forced(subject, mode))


def _forced(subject: Party, mode: Mode) -> str:
    if subject.node_labels is not None:
        return ""  # closed without a rule, it could not even learn of one that opens it
    if mode.enforcement is PolicyEnforcement.ALWAYS:
        return "enforcement mode always"
    return "labels that are not known yet" if Reserved.INIT.label in subject.labels else ""


def concerns(rule: Rule, party: Party) -> bool:
    """Whether the rule selects the party: rules about nodes no pods, rules about pods no nodes."""
    if rule.node_subject is not (party.node_labels is not None):
        return False
    return not subject_terms(rule, party)


def elements(rule: Rule, direction: Direction) -> tuple[DirectionRule, ...]:
    return rule.ingress if direction is Direction.INGRESS else rule.egress


def closes(rule: Rule, direction: Direction) -> bool:
    return rule.default_deny_ingress if direction is Direction.INGRESS else rule.default_deny_egress


def decide(
    stand: Standing, matching: Sequence[Statement], subject: Party, peer: Party, direction: Direction, mode: Mode
) -> Decision:
    """First as if policies that only watch were not there; what passes then and not with them is AUDIT."""
    localhost = mode.allow_localhost and direction is Direction.INGRESS and Reserved.HOST.label in peer.labels
    real = _Reading(
        [one for one in matching if not one.policy.audit],
        [policy for policy in stand.closed_by if not policy.audit],
        stand.forced,
        localhost=localhost and subject.node_labels is None,
    )
    decision = real.decide()
    if decision.verdict is Verdict.ALLOWED and any(policy.audit for policy in _all(stand, matching)):
        full = _Reading(list(matching), list(stand.closed_by), stand.forced, localhost=real.localhost).decide()
        if full.verdict is Verdict.DENIED:
            return Decision(Verdict.AUDIT, f"audit of its policy: {full.reason}", full.tier, full.deciding)
    if mode.audits(subject) and decision.verdict is Verdict.DENIED:
        return Decision(Verdict.AUDIT, f"audit mode: {decision.reason}", decision.tier, decision.deciding)
    return decision


def _all(stand: Standing, matching: Iterable[Statement]) -> Iterable[PolicyObject]:
    return (*stand.closed_by, *(one.policy for one in matching))


@dataclass(frozen=True)
class _Reading:
    matching: list[Statement]
    closing: list[PolicyObject]
    forced: str
    localhost: bool
    """The peer is the subject's own node, which is let in unless a rule denies it."""

    def decide(self) -> Decision:
        return (
            self._ordered(Tier.ADMIN) or self._normal() or self._ordered(Tier.BASELINE) or self._at_last()
        )  # fmt: skip

    def _ordered(self, tier: Tier) -> Decision | None:
        """The first rule that matches of the objects with the lowest priority; pass: nothing of this tier decides.

        Where such objects disagree, the most cautious has its way.
        """
        found = [one for one in self.matching if one.tier is tier]
        lowest = min((one.rule.priority for one in found), default=0)
        firsts: dict[str, Statement] = {}
        for one in sorted(found, key=lambda one: (one.spec, one.element.index)):
            if one.rule.priority == lowest:
                firsts.setdefault(one.policy.key, one)
        for action, verdict in ((Action.DENY, Verdict.DENIED), (Action.PASS, None), (Action.ALLOW, Verdict.ALLOWED)):
            deciding = tuple(one for one in firsts.values() if one.action is action)
            if deciding and verdict is None:
                return None
            if deciding and verdict is not None:
                return Decision(verdict, f"{verdict} by the first rule that matches", tier, deciding)
        return None

    def _normal(self) -> Decision | None:
        found = [one for one in self.matching if one.tier is Tier.NORMAL]
        for action, verdict in ((Action.DENY, Verdict.DENIED), (Action.ALLOW, Verdict.ALLOWED)):
            deciding = tuple(one for one in found if one.action is action)
            if deciding:
                reason = "denied by a rule" if action is Action.DENY else "allowed by a rule"
                return Decision(verdict, reason, Tier.NORMAL, deciding)
        return self._default_deny(", ".join(map(title, self.closing)), Tier.NORMAL) if self.closing else None

    def _at_last(self) -> Decision:
        """What is closed without a policy is closed behind all tiers."""
        if self.forced:
            return self._default_deny(self.forced, None)
        return Decision(Verdict.ALLOWED, "no rule denies it, and nothing is denied by default")

    def _default_deny(self, who: str, tier: Tier | None) -> Decision:
        if self.localhost:
            return Decision(Verdict.ALLOWED, "the pod's own node is let in (allowLocalhost)", tier)
        return Decision(Verdict.DENIED, f"denied by default ({who}): no rule allows it", tier)
