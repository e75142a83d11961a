"""Rules that nearly match: what somebody probably meant to write.

In: policy objects and the question. Out: `NearMiss`es, the nearest first. A rule is near if one thing is wrong with
it: the port, or the protocol, or one term of the peer's selector, or one term of the subject's, or the direction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cilium.features.policy.explain.matching import about, carries, peer_misses, port_misses, subject_misses
from cilium.features.policy.explain.rows import Direction, Lack, Miss, NearMiss, Party, Statement, Traffic
from cilium.tables.kubernetes import NamedPort
from cilium.tables.rules import DirectionRule, PolicyObject

MOST = 8
_ORDER = (Lack.ENFORCEMENT, Lack.PORT, Lack.PROTOCOL, Lack.PEER, Lack.DIRECTION, Lack.SUBJECT)


def near_misses(
    policies: Iterable[PolicyObject],
    direction: Direction,
    subject: Party,
    peer: Party,
    traffic: Traffic,
    named: Sequence[NamedPort],
    matching: Sequence[Statement],
) -> tuple[NearMiss, ...]:
    found: list[NearMiss] = []
    for policy in policies:
        for spec, rule in enumerate(policy.rules):
            if rule.node_subject is not (subject.node_labels is not None):
                continue
            missing = subject_misses(rule, subject)
            if len(missing) > 1:
                continue
            for section in (direction, direction.other):
                for element in rule.ingress if section is Direction.INGRESS else rule.egress:
                    statement = Statement(policy, spec, rule, element)
                    if statement in matching:
                        continue
                    misses = [*missing, *_misses(element, peer, traffic, named)]
                    if section is not direction:
                        misses.append(Miss(Lack.DIRECTION, f"it is about {section}, this is {direction}"))
                    if len(misses) == 1:
                        found.append(NearMiss(statement, tuple(misses)))
    found.sort(key=lambda near: (_ORDER.index(near.misses[0].lack), near.statement.text))
    return tuple(found[:MOST])


def _misses(element: DirectionRule, peer: Party, traffic: Traffic, named: Sequence[NamedPort]) -> list[Miss]:
    fits = about(element.peers, peer), carries(element.ports, traffic, named)
    if element.unenforced and not all(fits):
        return [Miss(Lack.ENFORCEMENT, f"not enforced by this version: {', '.join(element.unenforced)}")]
    misses = [] if fits[0] else peer_misses(element.peers, peer)
    return misses if fits[1] else [*misses, *port_misses(element.ports, traffic, named)]
