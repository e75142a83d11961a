"""Creates the CiliumIdentities that endpoints of this node are waiting for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cilium.features.identity.labels import to_map
from cilium.features.identity.rows import IdentityRequest
from cilium.state.outcomes import each_async
from cilium.state.reconciler import Errors
from cilium.tables.labels import NAMESPACE


class Writes(Protocol):
    async def create_identity(self, body: Mapping[str, Any]) -> None:
        """Raises an error with `.status` 409 if the name is taken."""


class IdentityRequestOps:
    """Operations of the `identity-requests` reconciler.

    A name that is taken is no error if the watch shows the same labels under it soon; if it shows others, the request
    gets a new candidate and is tried again. Rows leave the table when nobody waits any more: nothing to undo.
    """

    def __init__(self, writes: Writes) -> None:
        self._writes = writes

    async def update(self, rows: Sequence[IdentityRequest]) -> Errors:
        return await each_async(rows, key=lambda row: row.labels, call=self._create)

    def delete(self, rows: Sequence[IdentityRequest]) -> None:
        """Somebody has made it, or nobody waits any more."""

    def prune(self, rows: Sequence[IdentityRequest]) -> None:
        """The operator collects identities that no endpoint uses."""

    async def _create(self, row: IdentityRequest) -> None:
        labels = to_map(row.labels)
        body = {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumIdentity",
            "metadata": {
                "name": str(row.candidate),
                "labels": {NAMESPACE: labels.get(f"k8s:{NAMESPACE}", "")},
            },
            "security-labels": labels,
        }
        try:
            await self._writes.create_identity(body)
        except Exception as error:
            if getattr(error, "status", 0) != 409:
                raise
