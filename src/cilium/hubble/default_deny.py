"""Which policies close an endpoint: what to name when no rule allowed a packet.

Owns: `DefaultDeny`, asked when a flow that default deny dropped is decoded. Comes in: policies in force, the labels of
this node's endpoints. Goes out: the policies whose default deny holds for an endpoint and a direction, or would hold if
those in audit mode were enforced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cilium.datapath.generated import FlowDirection
from cilium.state.table import Table
from cilium.tables.endpoints import EndpointIdentity
from cilium.tables.identities import Reserved
from cilium.tables.matching import selects
from cilium.tables.rules import PolicyObject, RuleReference
from cilium.tables.types import EndpointId, Labels

_MAX_KEPT = 4096


class DefaultDeny:
    """Answers are kept until a policy or an endpoint changes."""

    def __init__(
        self,
        policies: Table[Any, PolicyObject],
        endpoint_identities: Table[Any, EndpointIdentity],
        references: Table[Any, RuleReference] | None = None,
    ) -> None:
        """`references`, with an index `policy`: revisions and labels of policies are taken from there."""
        self._policies, self._endpoints, self._references = policies, endpoint_identities, references
        self._revisions = (-1, -1)
        self._answers: dict[tuple[Labels, FlowDirection, bool], tuple[RuleReference, ...]] = {}

    def __call__(self, endpoint: int, direction: FlowDirection, audited: bool = False) -> Sequence[RuleReference]:
        """`audited`: with the policies in audit mode."""
        row = self._endpoints.snapshot().get(EndpointId(endpoint))
        if row is None:
            return ()
        policies = self._policies.snapshot()
        revisions = (policies.revision, self._endpoints.revision)
        if revisions != self._revisions or len(self._answers) > _MAX_KEPT:
            self._answers.clear()
            self._revisions = revisions
        key = (row.labels, direction, audited)
        if key not in self._answers:
            self._answers[key] = tuple(
                self._reference(policy, "ingress" if direction is FlowDirection.INGRESS else "egress")
                for policy in policies
                if (audited or not policy.audit) and closes(policy, row.labels, direction)
            )
        return self._answers[key]

    def _reference(self, policy: PolicyObject, section: str) -> RuleReference:
        """The object itself: no rule of it decided."""
        known = () if self._references is None else self._references.snapshot().by("policy", policy.key)
        return RuleReference(
            cookie=0,
            kind=policy.kind,
            namespace=policy.namespace,
            name=policy.name,
            section=section,
            index=0,
            labels=tuple(dict.fromkeys(label for rule in policy.rules for label in rule.labels)),
            revision=max((rule.revision for rule in known), default=0),
        )


def closes(policy: PolicyObject, labels: Labels, direction: FlowDirection) -> bool:
    """Whether a rule of the policy that is about the endpoint with these labels asks for default deny in the direction.

    Rules about pods never mean the node; of those about nodes, policies in force have only the ones that select this.
    """
    node = Reserved.HOST.label in labels
    return any(
        (rule.default_deny_ingress if direction is FlowDirection.INGRESS else rule.default_deny_egress)
        and rule.node_subject is node
        and (node or selects(rule.subject, labels))
        for rule in policy.rules
    )
