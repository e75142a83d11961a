"""Tells the API of what is wrong with services: an Event for each problem, once for each change.

In: rows of `service-problems`. Out: Events of core/v1. Every node finds the same problems; the name of an Event is made
of what it says, so of many agents that tell one problem the first does it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from cilium.protocols.kubernetes.events import CLUSTER_NAMESPACE, warning
from cilium.state.outcomes import each_async
from cilium.state.reconciler import Errors
from cilium.tables.problems import Problem, ProblemKey

VERSIONS = {
    "Service": "v1",
    "Pod": "v1",
    "CiliumLocalRedirectPolicy": "cilium.io/v2",
    "CiliumNetworkPolicy": "cilium.io/v2",
    "CiliumClusterwideNetworkPolicy": "cilium.io/v2",
    "NetworkPolicy": "networking.k8s.io/v1",
    "ClusterNetworkPolicy": "policy.networking.k8s.io/v1alpha2",
}


class Writes(Protocol):
    async def create_event(self, namespace: str, body: Mapping[str, Any], /) -> None:
        """One that is there already is no error."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class ProblemEvents:
    """Operations of the `service-events` reconciler. `uid`: of the object with a kind and namespace/name, as far as it
    is known. Nothing is taken back: Events age.
    """

    def __init__(
        self,
        *,
        writes: Writes,
        node: str,
        uid: Callable[[str, str], str],
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._writes, self._node, self._uid, self._now = writes, node, uid, now
        self._told: dict[ProblemKey, Problem] = {}

    async def update(self, rows: Sequence[Problem]) -> Errors:
        """Rows come again after a while; what has been told is not told again."""
        fresh = [row for row in rows if self._told.get(row.key) != row]
        return await each_async(fresh, key=lambda row: row.key, call=self._tell)

    async def delete(self, rows: Sequence[Problem]) -> Errors:
        for row in rows:
            self._told.pop(row.key, None)
        return {}

    async def prune(self, rows: Sequence[Problem]) -> None:
        """See `delete`: there is nothing to take back."""

    async def _tell(self, row: Problem) -> None:
        uid = self._uid(row.kind, f"{row.namespace}/{row.name}")
        namespace = row.namespace or CLUSTER_NAMESPACE
        await self._writes.create_event(namespace, event(row, uid=uid, node=self._node, now=self._now()))
        self._told[row.key] = row


def event(row: Problem, *, uid: str, node: str, now: datetime) -> dict[str, Any]:
    version = VERSIONS.get(row.kind, "")
    about = {"kind": row.kind, "apiVersion": version, "namespace": row.namespace, "name": row.name, "uid": uid}
    unique = (row.kind, row.namespace, row.name, uid, row.reason, row.field, row.message)
    message = f"{row.field}: {row.message}"
    return warning(about, reason=row.reason.value, message=message, unique=unique, node=node, now=now)
