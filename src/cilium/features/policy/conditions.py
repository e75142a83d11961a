"""The `Valid` condition of CiliumNetworkPolicies (run by the operator): what every user of `kubectl get cnp` sees.

In: `policies`. Out: `policy-conditions`, and from there the status of the objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from cilium.features.policy.repository import unenforced
from cilium.state import Derivation, Reconciler, RowChanges, Table, View
from cilium.state.cell import Cell
from cilium.state.outcomes import each_async
from cilium.state.reconciler import Errors
from cilium.tables.rules import PolicyObject

KINDS = ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")


class PolicyCondition(msgspec.Struct, frozen=True):
    """Desired table `policy-conditions`, key `kind/namespace/name`."""

    kind: str
    namespace: str
    name: str
    valid: bool
    message: str

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


def conditions(view: View) -> Mapping[str, RowChanges[Any, Any]]:
    upserts, deletes = [], []
    for change in view.changes["policies"]:
        policy: PolicyObject | None = change.new
        if policy is None:
            deletes.append(change.key)
        elif policy.kind in KINDS:
            message = policy.error or "; ".join(["Policy validation succeeded", *_remarks(policy)])
            upserts.append(PolicyCondition(policy.kind, policy.namespace, policy.name, not policy.error, message))
    return {"policy-conditions": RowChanges(upserts=upserts, deletes=deletes)}


def _remarks(policy: PolicyObject) -> list[str]:
    """What a valid policy does not get."""
    return [*policy.warnings, *(f"not enforced: {path}" for path in unenforced(policy.rules))]


class Writes(Protocol):
    async def patch_policy_status(self, kind: str, namespace: str, name: str, body: Mapping[str, Any]) -> None:
        """Merge-patches the status of a policy; `namespace` is empty for clusterwide ones."""


class ConditionOps:
    """Operations of the `policy-conditions` reconciler."""

    def __init__(self, writes: Writes, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._writes, self._now = writes, now

    async def update(self, rows: Sequence[PolicyCondition]) -> Errors:
        return await each_async(rows, key=lambda row: row.key, call=self._write)

    def delete(self, rows: Sequence[PolicyCondition]) -> None:
        """The condition went with its object."""

    def prune(self, rows: Sequence[PolicyCondition]) -> None:
        """Conditions live in the objects themselves."""

    async def _write(self, row: PolicyCondition) -> None:
        condition = {
            "type": "Valid",
            "status": "True" if row.valid else "False",
            "lastTransitionTime": self._now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "message": row.message,
        }
        await self._writes.patch_policy_status(
            row.kind, row.namespace, row.name, {"status": {"conditions": [condition]}}
        )


def build(*, writes: Writes, policies: Table[str, PolicyObject]) -> Cell:
    rows: Table[str, PolicyCondition] = Table("policy-conditions", key=lambda row: row.key)
    return Cell(
        name="policy conditions",
        derivations=(
            Derivation(
                "policy-conditions",
                inputs={"policies": policies},
                outputs={"policy-conditions": rows.writer("policy")},
                compute=conditions,
            ),
        ),
        # Without refresh: a time of transition that is written anew would be a lie.
        reconcilers=(Reconciler("policy-conditions", table=rows, operations=ConditionOps(writes), refresh=1e9),),
    )
