"""cilium policy explain: answers as text and as JSON.

In: `Explanation`s, and what the kernels said if they were asked. Out: a tree per connection, documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from cilium.cli.tree import Tree
from cilium.features.policy.explain.matching import bare, port_text
from cilium.features.policy.explain.rows import Explanation, Judgement, NearMiss, Party, Statement, Verdict, title
from cilium.features.policy.explain.spectrum import Range
from cilium.tables.rules import Action, Peers, Tier

_COLORS = {Verdict.ALLOWED: "green", Verdict.DENIED: "red", Verdict.AUDIT: "yellow"}
Document = dict[str, Any]


@dataclass
class Answer:
    """`live`: what the kernel says, by direction; a text: why it could not be asked."""

    explanation: Explanation
    live: dict[str, Document | str] = field(default_factory=dict)

    @property
    def differences(self) -> list[str]:
        found = []
        for judgement in (self.explanation.egress, self.explanation.ingress):
            live = self.live.get(judgement.direction)
            if isinstance(live, Mapping) and live["verdict"] != judgement.verdict:
                found.append(
                    f"{judgement.direction}: the objects say {judgement.verdict}, the kernel {live['verdict']}"
                )
        return found


def text(answer: Answer) -> str:
    explanation = answer.explanation
    ends = f"{explanation.source.name} → {explanation.destination.name}"
    tree = Tree(f"{click.style(ends, bold=True)}, {explanation.traffic}: {painted(explanation.verdict)}")
    for judgement in (explanation.egress, explanation.ingress):
        _judgement(tree, judgement, answer.live.get(judgement.direction))
    for difference in answer.differences:
        tree.add(click.style(f"DIFFERENT  {difference}", fg="red", bold=True))
    return str(tree)


def painted(verdict: Verdict) -> str:
    return click.style(verdict.value, fg=_COLORS[verdict], bold=True)


def _judgement(tree: Tree, judgement: Judgement, live: Document | str | None) -> None:
    branch = tree.add(f"{judgement.direction} of {judgement.subject.name}: {painted(judgement.verdict)}")
    tier = f" (tier {judgement.tier.name})" if judgement.tier not in (None, Tier.NORMAL) else ""
    branch.add(f"{judgement.reason}{tier}")
    for heading, statements in (("decided by", judgement.deciding), ("matches too", judgement.overruled)):
        if statements:
            part = branch.add(heading)
            for statement in statements:
                part.add(statement_text(statement))
    if judgement.closed_by:
        names = (title(policy) + (" (audit)" if policy.audit else "") for policy in judgement.closed_by)
        branch.add(f"default deny by {', '.join(names)}")
    if judgement.near:
        part = branch.add("nearly matches")
        for near in judgement.near:
            _near(part, near)
    if live is not None:
        branch.add(f"kernel: {live_text(live)}")


def _near(part: Tree, near: NearMiss) -> None:
    leaf = part.add(statement_text(near.statement))
    for miss in near.misses:
        leaf.add(f"{miss.lack}: {miss.text}")


def statement_text(statement: Statement) -> str:
    """`CiliumNetworkPolicy shop/web spec.ingress[0]: allows app=front on TCP 80`."""
    verb = {Action.ALLOW: "allows", Action.DENY: "denies", Action.PASS: "passes over"}[statement.action]
    ports = statement.element.ports
    traffic = "" if ports is None else f" on {', '.join(map(port_text, ports)) or 'nothing'}"
    audit = " (audit)" if statement.policy.audit else ""
    return f"{statement.text}: {verb} {peers_text(statement.element.peers)}{traffic}{audit}"


def peers_text(peers: Peers) -> str:
    if peers.wildcard:
        return "anybody"
    said = [selector_text(selector.requirements) for selector in peers.selectors]
    said += [
        str(cidr.cidr) + (f" except {', '.join(map(str, cidr.excepts))}" if cidr.excepts else "")
        for cidr in peers.cidrs
    ]
    return " or ".join(dict.fromkeys(said)) or "nobody"


def selector_text(requirements: Iterable[Any]) -> str:
    """`{app=web,io.kubernetes.pod.namespace=shop}`, with what every selector says left out."""
    terms = []
    for term in requirements:
        key = bare(term.key)
        if key == "io.cilium.k8s.policy.cluster":
            continue
        values = "|".join(term.values)
        forms = {"In": f"{key}={values}", "NotIn": f"{key}!={values}", "Exists": key, "DoesNotExist": f"!{key}"}
        terms.append(forms[term.operator])
    return "{" + ",".join(terms) + "}"


def live_text(live: Document | str) -> str:
    if isinstance(live, str):
        return f"not asked: {live}"
    said = f"{live['verdict']}, identity {live['identity']}"
    rule = live.get("rule")
    return said + (f", by {rule}" if rule else "")


def ranges_text(source: Party, destination: Party, ranges: Iterable[Range]) -> str:
    """All traffic between two."""
    tree = Tree(f"{click.style(f'{source.name} → {destination.name}', bold=True)}")
    for verdict, texts in by_verdict(ranges).items():
        tree.add(f"{painted(verdict)}: {', '.join(texts)}")
    return str(tree)


def by_verdict(ranges: Iterable[Range]) -> dict[Verdict, list[str]]:
    """Texts of the ranges, neighbours of one verdict joined."""
    found: dict[Verdict, list[str]] = {}
    for one in joined(ranges):
        found.setdefault(one.verdict, []).append(one.text)
    if len(found) == 1:
        return {verdict: ["everything"] for verdict in found}
    return found


def joined(ranges: Iterable[Range]) -> list[Range]:
    """Neighbours of one protocol and verdict as one."""
    kept: list[Range] = []
    for one in ranges:
        last = kept[-1] if kept else None
        if last and (last.protocol, last.verdict, last.last + 1) == (one.protocol, one.verdict, one.first):
            kept[-1] = Range(last.protocol, last.first, one.last, one.verdict)
        else:
            kept.append(one)
    return kept


def document(answer: Answer) -> Document:
    explanation = answer.explanation
    found: Document = {
        "source": _party(explanation.source),
        "destination": _party(explanation.destination),
        "protocol": explanation.traffic.protocol,
        "port": explanation.traffic.port,
        "verdict": explanation.verdict,
    }
    for judgement in (explanation.egress, explanation.ingress):
        found[judgement.direction] = _direction(judgement)
        if judgement.direction in answer.live:
            found[judgement.direction]["live"] = answer.live[judgement.direction]
    if answer.live:
        found["differences"] = answer.differences
    return found


def _party(party: Party) -> Document:
    return {"name": party.name, "labels": list(party.labels)}


def _direction(judgement: Judgement) -> Document:
    return {
        "subject": judgement.subject.name,
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "enforced": judgement.enforced,
        "tier": judgement.tier.name if judgement.tier is not None else "",
        "decided_by": [statement_document(one) for one in judgement.deciding],
        "matches_too": [statement_document(one) for one in judgement.overruled],
        "denied_by_default_by": [
            {"kind": one.kind, "namespace": one.namespace, "name": one.name} for one in judgement.closed_by
        ],
        "nearly_matches": [
            {
                **statement_document(near.statement),
                "misses": [{"lack": miss.lack, "text": miss.text} for miss in near.misses],
            }
            for near in judgement.near
        ],
    }


def statement_document(statement: Statement) -> Document:
    return {
        "kind": statement.policy.kind,
        "namespace": statement.policy.namespace,
        "name": statement.policy.name,
        "rule": statement.where,
        "action": statement.action.name.lower(),
        "tier": statement.tier.name,
        "audit": statement.policy.audit,
    }
