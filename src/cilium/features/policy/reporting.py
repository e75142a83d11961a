"""Wires what this node says of policies: in their status, in Events, in its own status and metrics.

In: the engine's tables. Out: `policy-problems`, `policy-node-status`, and from there the API.
"""

from __future__ import annotations

from dataclasses import dataclass

from cilium.features.policy.cell import PolicyCell
from cilium.features.policy.incomplete import Incomplete
from cilium.features.policy.node_status import NodeStatus, NodeStatusOps, PolicyNodeStatus, Writes
from cilium.state import Derivation, Reconciler, Table
from cilium.state.cell import Cell
from cilium.state.reconciler import Operations
from cilium.tables.endpoints import EndpointIdentity
from cilium.tables.problems import Problem, ProblemKey
from cilium.tables.types import EndpointId

DEBOUNCE = 1.0
"""Seconds in which changes of what a node says of policies become one."""


@dataclass(frozen=True, kw_only=True)
class ReportingCell:
    cell: Cell
    problems: Table[ProblemKey, Problem]


def build(
    *,
    policy: PolicyCell,
    endpoint_identities: Table[EndpointId, EndpointIdentity],
    node: str,
    host_firewall: bool = False,
    writes: Writes | None,
    events: Operations[Problem],
) -> ReportingCell:
    """`writes`: into the status of policies; None: nothing is said there."""
    problems: Table[ProblemKey, Problem] = Table("policy-problems", key=lambda row: row.key)
    incomplete = Derivation(
        "policy-problems",
        inputs={
            "policy-map": policy.policy_map,
            "policy-map-status": policy.map_status,
            "rule-references": policy.rule_references,
        },
        outputs={"policy-problems": problems.writer("policy")},
        compute=Incomplete().compute,
    )
    telling = Reconciler("policy-events", table=problems, operations=events, debounce=DEBOUNCE)
    saying = []
    if writes is not None:
        rules, said = NodeStatus(node=host_firewall), NodeStatusOps(writes, node=node)
        saying.append(_saying(policy, endpoint_identities, problems, rules, said))
    return ReportingCell(
        cell=Cell(
            name="policy reports",
            derivations=(incomplete, *(derivation for derivation, _ in saying)),
            reconcilers=(telling, *(reconciler for _, reconciler in saying)),
        ),
        problems=problems,
    )


def _saying(
    policy: PolicyCell,
    endpoint_identities: Table[EndpointId, EndpointIdentity],
    problems: Table[ProblemKey, Problem],
    rules: NodeStatus,
    operations: NodeStatusOps,
) -> tuple[Derivation, Reconciler[str, PolicyNodeStatus]]:
    """What the status of the objects says of this node."""
    rows: Table[str, PolicyNodeStatus] = Table("policy-node-status", key=lambda row: row.key)
    derivation = Derivation(
        "policy-node-status",
        inputs={
            "policies": policy.resolved,
            "policy-status": policy.status,
            "endpoint-identities": endpoint_identities,
            "policy-problems": problems,
            **({} if policy.trials is None else {"host-policy-trials": policy.trials}),
        },
        outputs={"policy-node-status": rows.writer("policy")},
        compute=rules.compute,
    )
    # Patient: before all is known, what an earlier life said stands. Without refresh: nobody else writes there.
    return derivation, Reconciler(
        "policy-node-status",
        table=rows,
        operations=operations,
        patient=True,
        debounce=DEBOUNCE,
        retry_min=1.0,
        refresh=1e9,
    )
