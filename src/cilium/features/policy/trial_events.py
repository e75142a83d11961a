"""Tells the API of rules about this node that were rolled back: an Event at the object, once there is contact again.

In: `host-policy-trials`. Out: Events of core/v1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from cilium.features.policy.node_rules import rolled_back
from cilium.features.policy.rows import HostPolicyTrial, TrialState
from cilium.protocols.kubernetes.events import CLUSTER_NAMESPACE, warning
from cilium.state.outcomes import each_async
from cilium.state.reconciler import Errors

REASON = "HostPolicyRolledBack"


class Writes(Protocol):
    async def create_event(self, namespace: str, body: Mapping[str, Any], /) -> None:
        """One that is there already is no error."""


class TrialEvents:
    """Operations of the `host-policy-events` reconciler: a write that fails is tried again. Nothing is taken back."""

    def __init__(self, *, writes: Writes, node: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._writes, self._node, self._now = writes, node, now
        self._told: dict[str, HostPolicyTrial] = {}

    async def update(self, rows: Sequence[HostPolicyTrial]) -> Errors:
        fresh = [row for row in rows if row.state is TrialState.ROLLED_BACK and self._told.get(row.key) != row]
        return await each_async(fresh, key=lambda row: row.key, call=self._tell)

    async def delete(self, rows: Sequence[HostPolicyTrial]) -> Errors:
        for row in rows:
            self._told.pop(row.key, None)
        return {}

    async def prune(self, rows: Sequence[HostPolicyTrial]) -> None:
        """Events age."""

    async def _tell(self, row: HostPolicyTrial) -> None:
        await self._writes.create_event(
            row.namespace or CLUSTER_NAMESPACE, event(row, node=self._node, now=self._now())
        )
        self._told[row.key] = row


def event(row: HostPolicyTrial, *, node: str, now: datetime) -> dict[str, Any]:
    about = {
        "kind": row.kind,
        "apiVersion": "cilium.io/v2",
        "namespace": row.namespace,
        "name": row.name,
        "uid": row.uid,
    }
    unique = (row.key, row.uid, str(row.generation), node)
    return warning(about, reason=REASON, message=f"{node}: {rolled_back(row)}", unique=unique, node=node, now=now)
