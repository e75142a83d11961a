"""The status of policy objects as the operator keeps it: what every user of `kubectl get cnp` sees.

In: `policies` with what their status says now, `cilium-nodes`. Out: `policy-conditions`, and from there the status: the
`Valid` condition, `applied` (nodes that enforce the present generation / nodes concerned), and no word of nodes that
are gone. What nodes say themselves is in node_status.py. A status that says all this already is not written: there is
a row only for what is still to be written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import msgspec

from cilium.features.policy.rows import standing
from cilium.state import Derivation, Reconciler, RowChanges, Table, View
from cilium.state.cell import Cell
from cilium.state.outcomes import each_async
from cilium.state.reconciler import Errors
from cilium.tables.kubernetes import CiliumNode
from cilium.tables.rules import NodeReport, PolicyObject, PolicyReport

REPORTED = ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
"""Kinds whose status has room for what nodes say."""
KINDS = (*REPORTED, "ClusterNetworkPolicy")
DEBOUNCE = 0.3
"""Seconds."""
WELL = "Policy validation succeeded"


class PolicyCondition(msgspec.Struct, frozen=True):
    """Desired table `policy-conditions`, key `kind/namespace/name`: what is to be written into one status."""

    kind: str
    namespace: str
    name: str
    valid: bool
    message: str
    since: str = ""
    """Since when the object is valid or not; empty: since now."""
    applied: str = ""
    gone: tuple[str, ...] = ()
    """Nodes that the status speaks of and that there are no more."""

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


def conditions(view: View) -> Mapping[str, RowChanges[Any, Any]]:
    upserts, deletes = [], []
    nodes = {row.name for row in view.snapshots["cilium-nodes"]}
    for key, policy in _concerned(view).items():
        row = None if policy is None or policy.kind not in KINDS else _unwritten(policy, nodes)
        if row is None:
            deletes.append(key)
        else:
            upserts.append(row)
    return {"policy-conditions": RowChanges(upserts=upserts, deletes=deletes)}


def _concerned(view: View) -> dict[str, PolicyObject | None]:
    """Objects that changed, and all whose status speaks of a node that came or went."""
    found: dict[str, PolicyObject | None] = {change.key: change.new for change in view.changes["policies"]}
    moved = {change.key for change in view.changes["cilium-nodes"] if change.old is None or change.new is None}
    if moved:
        for policy in view.snapshots["policies"]:
            if policy.report is not None and not moved.isdisjoint(policy.report.nodes):
                found.setdefault(policy.key, policy)
    return found


def _unwritten(policy: PolicyObject, nodes: set[str]) -> PolicyCondition | None:
    report = policy.report or PolicyReport()
    valid = not policy.error
    living = {name: node for name, node in report.nodes.items() if name in nodes}
    wanted = PolicyCondition(
        kind=policy.kind,
        namespace=policy.namespace,
        name=policy.name,
        valid=valid,
        message=WELL if valid else f"{policy.error}; {_enforced(policy, living.values())}",
        since=report.since if report.valid == str(valid) else "",
        applied=_applied(policy, living.values()) if policy.kind in REPORTED else "",
        gone=tuple(sorted(report.nodes.keys() - nodes)),
    )
    said = report.valid, report.message, report.applied, ()
    return None if said == (str(valid), wanted.message, wanted.applied, wanted.gone) else wanted


def _enforced(policy: PolicyObject, reports: Iterable[NodeReport]) -> str:
    """The nodes know what they enforce; an operator that has just started may not."""
    generations = {report.revision for report in reports if report.enforcing}
    if len(generations) == 1 and 0 not in generations:
        return f"generation {generations.pop()}, the last valid one, stays enforced"
    if 0 in generations or (policy.rules and not policy.enforced):
        return "nodes that know no valid generation of it close whom it selects"
    return standing(policy)


def _applied(policy: PolicyObject, reports: Iterable[NodeReport]) -> str:
    told = list(reports)
    done = sum(report.ok and report.revision == policy.generation for report in told)
    return f"{done}/{len(told)}"


class Writes(Protocol):
    async def patch_policy_status(self, kind: str, namespace: str, name: str, body: Mapping[str, Any]) -> None:
        """Merge-patches the status of a policy; `namespace` is empty for clusterwide ones."""

    async def node_exists(self, name: str) -> bool:
        """Whether the API server has a CiliumNode of that name."""


class ConditionOps:
    """Operations of the `policy-conditions` reconciler."""

    def __init__(self, writes: Writes, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._writes, self._now = writes, now

    async def update(self, rows: Sequence[PolicyCondition]) -> Errors:
        there = await self._there({name for row in rows for name in row.gone})
        return await each_async(rows, key=lambda row: row.key, call=partial(self._write, there=there))

    def delete(self, rows: Sequence[PolicyCondition]) -> None:
        """It is written, or went with its object."""

    def prune(self, rows: Sequence[PolicyCondition]) -> None:
        """Conditions live in the objects themselves."""

    async def _there(self, names: set[str]) -> set[str]:
        """Of nodes that seem gone, those that are only new: two watches are not in step, and no node says it again."""
        return {name for name in sorted(names) if await self._writes.node_exists(name)}

    async def _write(self, row: PolicyCondition, *, there: set[str]) -> None:
        condition = {
            "type": "Valid",
            "status": "True" if row.valid else "False",
            "lastTransitionTime": row.since or self._now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "reason": "PolicyValid" if row.valid else "PolicyInvalid",
            "message": row.message,
        }
        status: dict[str, Any] = {"conditions": [condition]}
        if row.applied:
            status["applied"] = row.applied
        if gone := [name for name in row.gone if name not in there]:
            status["nodes"] = dict.fromkeys(gone)
        await self._writes.patch_policy_status(row.kind, row.namespace, row.name, {"status": status})


def build(*, writes: Writes, policies: Table[str, PolicyObject], cilium_nodes: Table[str, CiliumNode]) -> Cell:
    rows: Table[str, PolicyCondition] = Table("policy-conditions", key=lambda row: row.key)
    return Cell(
        name="policy conditions",
        derivations=(
            Derivation(
                "policy-conditions",
                inputs={"policies": policies, "cilium-nodes": cilium_nodes},
                outputs={"policy-conditions": rows.writer("policy")},
                compute=conditions,
            ),
        ),
        # Patient: before it knows the nodes, all of them seem gone. Many nodes report together: one write for all.
        # Without refresh: what is written is seen in the objects.
        reconcilers=(
            Reconciler(
                "policy-conditions",
                table=rows,
                operations=ConditionOps(writes),
                patient=True,
                debounce=DEBOUNCE,
                retry_min=1.0,
                refresh=1e9,
            ),
        ),
    )
