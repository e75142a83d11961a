"""Which CiliumIdentities nobody uses any more (run by the operator).

In: identities, endpoints, `now`. Out: names to delete. An identity is kept for a while after its last endpoint went:
a pod that is replaced must find it, and nodes that have not heard yet must not meet a number without meaning.
"""

from __future__ import annotations

from collections.abc import Iterable

from cilium.tables.kubernetes import CiliumEndpoint, CiliumIdentity
from cilium.tables.types import Identity


class IdentityCollector:
    """Remembers since when each identity has been without endpoints. Times are seconds of one monotonic clock."""

    def __init__(self, *, patience: float) -> None:
        self._patience = patience
        self._unused_since: dict[Identity, float] = {}

    def collect(
        self, *, identities: Iterable[CiliumIdentity], endpoints: Iterable[CiliumEndpoint], now: float
    ) -> list[Identity]:
        used = {endpoint.identity for endpoint in endpoints}
        unused = {row.id for row in identities} - used
        self._unused_since = {number: self._unused_since.get(number, now) for number in unused}
        return sorted(number for number, since in self._unused_since.items() if now - since >= self._patience)
