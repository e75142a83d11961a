"""What this node says of every policy object in its status: `status.nodes.<node>`.

In: `resolved-policies`, `policy-status` (which speaks only of what the kernel holds), `endpoint-identities`,
`policy-problems`, `host-policy-trials`. Out: `policy-node-status`, a row per object that selects an endpoint of this
node or could not be applied here, and from there the objects.

Every write is an event for every agent of the cluster: writes wait for each other, changes in quick succession become
one, and what an object says already is not written again, also by the next agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
import structlog

from cilium.features.policy.conditions import REPORTED
from cilium.features.policy.node_rules import rolled_back
from cilium.features.policy.rows import PolicyStatus, TrialState
from cilium.features.policy.selecting import Selecting
from cilium.state import RowChanges, View
from cilium.state.reconciler import Errors
from cilium.tables.rules import NodeReport

log = structlog.get_logger("policy")

Said = tuple[str, NodeReport]
"""uid of an object, and what its status says of a node."""
PAUSE = 0.05
"""Seconds between two writes: 20 per second and node at most."""


class PolicyNodeStatus(msgspec.Struct, frozen=True):
    """Desired table `policy-node-status`, key `kind/namespace/name`."""

    kind: str
    namespace: str
    name: str
    uid: str
    report: NodeReport

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


class NodeStatus:
    """`compute` is the compute function of one derivation. `node`: policies are enforced on the node itself, too."""

    def __init__(self, *, node: bool = False) -> None:
        self._selecting = Selecting(node=node)

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        concerned = self._selecting.take_policies(view.changes["policies"])
        concerned |= self._selecting.take_endpoints(view.changes["endpoint-identities"])
        concerned |= {change.key for change in view.changes["policy-status"]}
        for change in view.changes["policy-problems"]:
            concerned.add("/".join(change.key[:3]))
        trials = view.snapshots.get("host-policy-trials", ())
        concerned |= {change.key for change in view.changes.get("host-policy-trials", ())}
        problems = {row.key: rolled_back(row) for row in trials if row.state is TrialState.ROLLED_BACK}
        problems |= {f"{row.kind}/{row.namespace}/{row.name}": row.message for row in view.snapshots["policy-problems"]}
        statuses = view.snapshots["policy-status"]
        rows = {key: self._row(statuses.get(key), problems.get(key, "")) for key in sorted(concerned)}
        return {
            "policy-node-status": RowChanges(
                upserts=[row for row in rows.values() if row is not None],
                deletes=[key for key, row in rows.items() if row is None],
            )
        }

    def _row(self, status: PolicyStatus | None, problem: str) -> PolicyNodeStatus | None:
        if status is None or status.kind not in REPORTED:
            return None
        selects = self._selecting(status.key)
        if not selects and not problem:
            return None
        error = problem or status.error
        report = NodeReport(revision=status.enforced, enforcing=selects, ok=not error, error=error)
        return PolicyNodeStatus(status.kind, status.namespace, status.name, status.uid, report)


class Writes(Protocol):
    async def policy_nodes(self, node: str) -> dict[str, Said]:
        """What this node has said of every policy object, by `kind/namespace/name`."""

    async def patch_policy_status(self, kind: str, namespace: str, name: str, body: Mapping[str, Any]) -> None:
        """Merge-patches the status of a policy; `namespace` is empty for clusterwide ones."""


class NodeStatusOps:
    """Operations of the `policy-node-status` reconciler. Only this node writes under its name, but for the operator,
    which removes it when the node is gone."""

    def __init__(
        self,
        writes: Writes,
        *,
        node: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: float = PAUSE,
    ) -> None:
        self._writes, self._node, self._now, self._pause = writes, node, now, pause
        self._said: dict[str, Said] | None = None
        """Read once, then known."""

    async def update(self, rows: Sequence[PolicyNodeStatus]) -> Errors:
        said = await self._heard()
        errors: dict[str, Exception] = {}
        for row in rows:
            if said.get(row.key) == (row.uid, row.report):
                continue
            entry = msgspec.structs.asdict(row.report) | {"lastUpdated": self._now().strftime("%Y-%m-%dT%H:%M:%SZ")}
            try:
                await self._write(row.key, entry)
                said[row.key] = row.uid, row.report
            except Exception as error:
                errors[row.key] = error
        return errors

    async def delete(self, rows: Sequence[PolicyNodeStatus]) -> Errors:
        return await self._withdraw([row.key for row in rows])

    async def prune(self, rows: Sequence[PolicyNodeStatus]) -> None:
        """What an earlier life said of objects that no longer concern this node."""
        errors = await self._withdraw(sorted((await self._heard()).keys() - {row.key for row in rows}))
        if errors:
            raise ExceptionGroup("status of policies", list(errors.values()))

    async def _withdraw(self, keys: Sequence[str]) -> dict[str, Exception]:
        said = await self._heard()
        errors: dict[str, Exception] = {}
        for key in keys:
            if key not in said:
                continue
            try:
                await self._write(key, None)
                del said[key]
            except Exception as error:
                errors[key] = error
        return errors

    async def _heard(self) -> dict[str, Said]:
        if self._said is None:
            self._said = await self._writes.policy_nodes(self._node)
        return self._said

    async def _write(self, key: str, entry: Mapping[str, Any] | None) -> None:
        kind, namespace, name = key.split("/", 2)
        await self._writes.patch_policy_status(kind, namespace, name, {"status": {"nodes": {self._node: entry}}})
        if self._pause:
            await asyncio.sleep(self._pause)
